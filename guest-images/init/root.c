// SPDX-License-Identifier: MIT
#include "init.h"

/* The initramfs is the root. */
bool root_enter(void)
{
	return true;
}
