/* `ringlet backend net SOCK[,key=value...] [SOCK[,key=value...]]` */
#ifndef SERVERS_BACKEND_NET_H
#define SERVERS_BACKEND_NET_H

/* What is written behind "backend net".  Serves until SIGINT, SIGTERM or SIGHUP; prints a line when front ends
 * can come, and what has passed at the end.  The main thread; to be the only one so far.  The status to exit
 * with. */
int server_net_main(int argc, char *const argv[]);
#endif
