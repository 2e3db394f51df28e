/* `ringlet backend net|blk ...`: a vhost-user back end instead of a VM. */
#ifndef SERVERS_BACKEND_H
#define SERVERS_BACKEND_H

/* What is written behind "backend".  The main thread; to be the only one so far.  The status to exit with. */
int backend_main(int argc, char *const argv[]);
#endif
