/* Where control sockets lie. */
#ifndef VMM_CONTROL_PATH_H
#define VMM_CONTROL_PATH_H
#include <stddef.h>

/* The directory of all VMs of this user.  0, or -ENAMETOOLONG. */
int control_base(char *buf, size_t size);
/* The socket of the VM called name.  0, or -ENAMETOOLONG: more than a socket's address holds. */
int control_socket_path(char *buf, size_t size, const char *name);
#endif
