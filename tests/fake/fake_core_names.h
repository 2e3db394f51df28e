/* Names for a second copy of the transports, over the fake core: they stand beside the real ones in one
 * program.  Only the files of the fake core include it, first of all. */
#ifndef TESTS_FAKE_CORE_NAMES_H
#define TESTS_FAKE_CORE_NAMES_H
#define virtio_status          fake_virtio_status
#define virtio_set_status      fake_virtio_set_status
#define virtio_features        fake_virtio_features
#define virtio_accepted        fake_virtio_accepted
#define virtio_set_features    fake_virtio_set_features
#define virtio_has             fake_virtio_has
#define virtio_config_read     fake_virtio_config_read
#define virtio_config_write    fake_virtio_config_write
#define virtio_queue_get       fake_virtio_queue_get
#define virtio_queue_set_size  fake_virtio_queue_set_size
#define virtio_queue_set_addr  fake_virtio_queue_set_addr
#define virtio_queue_set_ready fake_virtio_queue_set_ready
#define virtio_queue_reset     fake_virtio_queue_reset
#define virtio_queue_notify    fake_virtio_queue_notify
#define virtio_pci_new         fake_virtio_pci_new
#define virtio_pci_slot        fake_virtio_pci_slot
#define vpci_common_read       fake_vpci_common_read
#define vpci_common_write      fake_vpci_common_write
#define vpci_isr_set           fake_vpci_isr_set
#define vpci_isr_take          fake_vpci_isr_take
#define vpci_msix_control      fake_vpci_msix_control
#define vpci_set_config_vector fake_vpci_set_config_vector
#define vpci_set_queue_vector  fake_vpci_set_queue_vector
#define vpci_irq_bind          fake_vpci_irq_bind
#define vpci_irq_unbind        fake_vpci_irq_unbind
#define virtio_mmio_new        fake_virtio_mmio_new
#endif
