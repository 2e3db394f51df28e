/* A port that no frame crosses: it says what its datapath serves. */
#include <criterion/criterion.h>

#include "backends/null_port.h"

Test(null_port, offers_what_is_served_and_no_more)
{
	struct net_port *p = null_port_new(0x1234);

	cr_assert(p);
	cr_expect_eq(p->ops->features(p), 0x1234);
	p->ops->destroy(p);
}
