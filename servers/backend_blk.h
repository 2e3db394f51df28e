/* `ringlet backend blk SOCK[,key=value...] FILE[,key=value...]` */
#ifndef SERVERS_BACKEND_BLK_H
#define SERVERS_BACKEND_BLK_H

/* What is written behind "backend blk".  Serves until SIGINT, SIGTERM or SIGHUP; prints a line when a front end
 * can come, and what has passed at the end.  The main thread; to be the only one so far.  The status to exit
 * with. */
int server_blk_main(int argc, char *const argv[]);
#endif
