/* The port of a card whose frames never cross this process and whose server needs to be told nothing beside
 * what its datapath is told (vDPA). */
#ifndef BACKENDS_NULL_PORT_H
#define BACKENDS_NULL_PORT_H
#include "devices/net/net_port.h"

/* served: the feature bits that the card's datapath serves, so that the card offers none whose requirement is
 * missing there. NULL: out of memory.  Ended by its destroy(). */
struct net_port *null_port_new(uint64_t served);
#endif
