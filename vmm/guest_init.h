/* Our init for guests (guest-images/init/), carried inside the binary. */
#ifndef VMM_GUEST_INIT_H
#define VMM_GUEST_INIT_H

extern const unsigned char guest_init[];
extern const unsigned int guest_init_len;
#endif
