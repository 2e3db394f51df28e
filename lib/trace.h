/* --trace control: what is said to whoever serves a device, one line a call or a message, all in one form:
 *
 *   ringlet: trace: 0.002193 net0 vhost SET_VRING_NUM vring=0 num=256
 *   ringlet: trace: 0.002201 net0 vhost NET_SET_BACKEND vring=0 fd=12: Device or resource busy
 *   ringlet: trace: 0.004310 disk0 vhost-user > SET_VRING_ENABLE need_reply queue=0 num=0x1
 *
 * that is seconds since the first line, device, protocol, name, arguments, and what went wrong.  Any thread. */
#ifndef LIB_TRACE_H
#define LIB_TRACE_H
#include <stdbool.h>

void trace_control(bool on); /* off until set */
/* For who would have to make text for nothing. */
bool trace_wanted(void);
/* what: name and arguments.  rc: 0, or -errno. */
void trace_call(const char *device, const char *protocol, const char *what, int rc);
#endif
