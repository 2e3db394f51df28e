/* The transport once more, over the fake core. */
/* clang-format off */
#include "tests/fake/fake_core_names.h"
/* clang-format on */
#include "devices/virtio_mmio/virtio_mmio.c"
