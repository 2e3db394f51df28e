#ifndef VMM_VERSION_H
#define VMM_VERSION_H
#define RINGLET_VERSION "0.1"
#endif
