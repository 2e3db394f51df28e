/* The transport once more, over the fake core. */
/* clang-format off */
#include "tests/fake/fake_core_names.h"
/* clang-format on */
#include "devices/virtio_pci/common.c"
#include "devices/virtio_pci/irq.c"
#include "devices/virtio_pci/virtio_pci.c"
