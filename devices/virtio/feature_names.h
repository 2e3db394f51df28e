/* Names of feature bits, for sentences. */
#ifndef VIRTIO_FEATURE_NAMES_H
#define VIRTIO_FEATURE_NAMES_H
#include <stddef.h>
#include <stdint.h>

/* Those of a device of this type (VIRTIO_ID_*), without their VIRTIO_ prefixes, separated by ", "; a bit
 * without a name by its number.  Cut to len bytes.  Returns out. */
const char *feature_names(uint32_t device_id, uint64_t bits, char *out, size_t len);
#endif
