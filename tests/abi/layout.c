/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of every public struct, member by member, on 64-bit machines. A line that fails means
 * that programs already compiled would break; members are only ever appended.
 */
#include <hci/hci.h>
#include <hci/plugin.h>
#include <hci/plugin_placement.h>
#include <hci/plugin_scheduler.h>
#include <hci/plugin_store.h>

#define AT(type, member, offset) \
	_Static_assert(offsetof(type, member) == (offset), #type "." #member " has moved")
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has another size")

/* hci/cache.h */
AT(struct hci_cache_opts, size, 0);
AT(struct hci_cache_opts, block, 4);
AT(struct hci_cache_opts, path, 8);
AT(struct hci_cache_opts, bytes, 16);
AT(struct hci_cache_opts, ram, 24);
SIZE(struct hci_cache_opts, 32);

AT(struct hci_cache_info, holder, 0);
AT(struct hci_cache_info, path, 64);
AT(struct hci_cache_info, block, 320);
AT(struct hci_cache_info, ssd_failed, 324);
AT(struct hci_cache_info, ssd_size, 328);
AT(struct hci_cache_info, ssd_used, 336);
AT(struct hci_cache_info, ram_max, 344);
AT(struct hci_cache_info, ram_used, 352);
AT(struct hci_cache_info, index_memory, 360);
AT(struct hci_cache_info, blocks, 368);
AT(struct hci_cache_info, hits_ram, 376);
AT(struct hci_cache_info, hits_ssd, 384);
AT(struct hci_cache_info, misses, 392);
AT(struct hci_cache_info, shared, 400);
AT(struct hci_cache_info, errors, 408);
AT(struct hci_cache_info, corrupt, 416);
AT(struct hci_cache_info, saved_ms, 424);
AT(struct hci_cache_info, at, 432);
SIZE(struct hci_cache_info, 440);

/* hci/cluster.h */
AT(struct hci_cluster_opts, size, 0);
AT(struct hci_cluster_opts, log_level, 4);
AT(struct hci_cluster_opts, store_url, 8);
AT(struct hci_cluster_opts, client_name, 16);
AT(struct hci_cluster_opts, ca_file, 24);
AT(struct hci_cluster_opts, cert_file, 32);
AT(struct hci_cluster_opts, key_file, 40);
AT(struct hci_cluster_opts, log, 48);
AT(struct hci_cluster_opts, log_arg, 56);
AT(struct hci_cluster_opts, busy_poll_us, 64);
SIZE(struct hci_cluster_opts, 72);

AT(struct hci_cluster_info, name, 0);
AT(struct hci_cluster_info, uuid, 64);
AT(struct hci_cluster_info, reserved, 101);
AT(struct hci_cluster_info, format, 104);
AT(struct hci_cluster_info, nodes, 108);
AT(struct hci_cluster_info, nodes_alive, 112);
AT(struct hci_cluster_info, disks, 116);
AT(struct hci_cluster_info, disks_online, 120);
AT(struct hci_cluster_info, pools, 124);
AT(struct hci_cluster_info, volumes, 128);
AT(struct hci_cluster_info, vms, 132);
SIZE(struct hci_cluster_info, 136);

/* hci/disk.h */
AT(struct hci_disk_opts, size, 0);
AT(struct hci_disk_opts, role, 4);
AT(struct hci_disk_opts, disk_class, 8);
AT(struct hci_disk_opts, timeout_ms, 12);
AT(struct hci_disk_opts, node, 16);
AT(struct hci_disk_opts, path, 24);
AT(struct hci_disk_opts, pool, 32);
AT(struct hci_disk_opts, log, 40);
AT(struct hci_disk_opts, log_size, 48);
AT(struct hci_disk_opts, log_wait_ms, 56);
AT(struct hci_disk_opts, log_level, 60);
SIZE(struct hci_disk_opts, 64);

AT(struct hci_disk_info, uuid, 0);
AT(struct hci_disk_info, reserved, 37);
AT(struct hci_disk_info, node, 40);
AT(struct hci_disk_info, path, 104);
AT(struct hci_disk_info, pool, 360);
AT(struct hci_disk_info, reason, 424);
AT(struct hci_disk_info, role, 680);
AT(struct hci_disk_info, disk_class, 684);
AT(struct hci_disk_info, state, 688);
AT(struct hci_disk_info, reserved2, 692);
AT(struct hci_disk_info, capacity, 696);
AT(struct hci_disk_info, free, 704);
AT(struct hci_disk_info, segments, 712);
AT(struct hci_disk_info, state_since, 720);
AT(struct hci_disk_info, log, 728);
AT(struct hci_disk_info, scrub_started, 984);
AT(struct hci_disk_info, scrub_finished, 992);
AT(struct hci_disk_info, scrub_done, 1000);
AT(struct hci_disk_info, scrub_total, 1008);
AT(struct hci_disk_info, scrub_corrupt, 1016);
AT(struct hci_disk_info, scrub_waiting, 1024);
AT(struct hci_disk_info, log_wait_ms, 1032);
AT(struct hci_disk_info, log_level, 1036);
SIZE(struct hci_disk_info, 1040);

AT(struct hci_disk_set_opts, size, 0);
AT(struct hci_disk_set_opts, log_wait_ms, 4);
AT(struct hci_disk_set_opts, log_level, 8);
AT(struct hci_disk_set_opts, reserved, 12);
SIZE(struct hci_disk_set_opts, 16);

AT(struct hci_scrub_opts, size, 0);
AT(struct hci_scrub_opts, start, 4);
AT(struct hci_scrub_opts, rate, 8);
AT(struct hci_scrub_opts, period_ms, 16);
SIZE(struct hci_scrub_opts, 24);

/* hci/error.h */
AT(struct hci_error, code, 0);
AT(struct hci_error, os_errno, 4);
AT(struct hci_error, message, 8);
SIZE(struct hci_error, 512);

/* hci/event.h */
AT(struct hci_event, type, 0);
AT(struct hci_event, reserved, 4);
AT(struct hci_event, time, 8);
AT(struct hci_event, revision, 16);
AT(struct hci_event, object, 24);
AT(struct hci_event, node, 280);
AT(struct hci_event, text, 344);
SIZE(struct hci_event, 600);

/* hci/export.h */
AT(struct hci_export_opts, size, 0);
AT(struct hci_export_opts, tls, 4);
AT(struct hci_export_opts, address, 8);
AT(struct hci_export_opts, name, 16);
AT(struct hci_export_opts, read_only, 24);
AT(struct hci_export_opts, reserved, 28);
SIZE(struct hci_export_opts, 32);

/* hci/job.h */
AT(struct hci_job_info, id, 0);
AT(struct hci_job_info, type, 64);
AT(struct hci_job_info, target, 128);
AT(struct hci_job_info, node, 384);
AT(struct hci_job_info, phase, 448);
AT(struct hci_job_info, unit, 704);
AT(struct hci_job_info, message, 768);
AT(struct hci_job_info, state, 1280);
AT(struct hci_job_info, error, 1284);
AT(struct hci_job_info, done, 1288);
AT(struct hci_job_info, total, 1296);
AT(struct hci_job_info, created, 1304);
AT(struct hci_job_info, updated, 1312);
SIZE(struct hci_job_info, 1320);

/* hci/memstream.h */
AT(struct hci_memstream_opts, size, 0);
AT(struct hci_memstream_opts, workers, 4);
AT(struct hci_memstream_opts, cache_bytes, 8);
AT(struct hci_memstream_opts, window_bytes, 16);
AT(struct hci_memstream_opts, inflight_ms, 24);
AT(struct hci_memstream_opts, level, 28);
SIZE(struct hci_memstream_opts, 32);

AT(struct hci_memstream_record, kind, 0);
AT(struct hci_memstream_record, region, 4);
AT(struct hci_memstream_record, address, 8);
AT(struct hci_memstream_record, len, 16);
AT(struct hci_memstream_record, data, 24);
SIZE(struct hci_memstream_record, 32);

AT(struct hci_memstream_info, stream_bytes, 0);
AT(struct hci_memstream_info, done_bytes, 8);
AT(struct hci_memstream_info, wire_bytes, 16);
AT(struct hci_memstream_info, rate, 24);
AT(struct hci_memstream_info, pages_zero, 32);
AT(struct hci_memstream_info, pages_same, 40);
AT(struct hci_memstream_info, pages_delta, 48);
AT(struct hci_memstream_info, pages_new, 56);
AT(struct hci_memstream_info, pages_raw, 64);
AT(struct hci_memstream_info, cpu_ns, 72);
SIZE(struct hci_memstream_info, 80);

/* hci/node.h */
AT(struct hci_node_opts, size, 0);
AT(struct hci_node_opts, heartbeat_ms, 4);
AT(struct hci_node_opts, name, 8);
AT(struct hci_node_opts, listen, 16);
AT(struct hci_node_opts, run_dir, 24);
AT(struct hci_node_opts, libvirt_uri, 32);
AT(struct hci_node_opts, copy_depth, 40);
AT(struct hci_node_opts, ram_disks, 44);
AT(struct hci_node_opts, guest_index_mib, 48);
AT(struct hci_node_opts, reserved, 52);
SIZE(struct hci_node_opts, 56);

AT(struct hci_node_info, name, 0);
AT(struct hci_node_info, address, 64);
AT(struct hci_node_info, version, 320);
AT(struct hci_node_info, state, 384);
AT(struct hci_node_info, disks, 388);
AT(struct hci_node_info, vms, 392);
AT(struct hci_node_info, reserved, 396);
AT(struct hci_node_info, started_at, 400);
AT(struct hci_node_info, migrate_bandwidth, 408);
AT(struct hci_node_info, migrations, 416);
AT(struct hci_node_info, reserved2, 420);
SIZE(struct hci_node_info, 424);

AT(struct hci_node_limits, size, 0);
AT(struct hci_node_limits, migrations, 4);
AT(struct hci_node_limits, migrate_bandwidth, 8);
SIZE(struct hci_node_limits, 16);

/* hci/plugin.h */
AT(struct hci_plugin_host, size, 0);
AT(struct hci_plugin_host, abi, 4);
AT(struct hci_plugin_host, ctx, 8);
AT(struct hci_plugin_host, log, 16);
AT(struct hci_plugin_host, fail, 24);
SIZE(struct hci_plugin_host, 32);

AT(struct hci_plugin, abi, 0);
AT(struct hci_plugin, size, 4);
AT(struct hci_plugin, kind, 8);
AT(struct hci_plugin, reserved, 12);
AT(struct hci_plugin, name, 16);
AT(struct hci_plugin, version, 24);
AT(struct hci_plugin, ops, 32);
SIZE(struct hci_plugin, 40);

/* hci/plugin_placement.h */
AT(struct hci_placement_disk, uuid, 0);
AT(struct hci_placement_disk, reserved, 37);
AT(struct hci_placement_disk, node, 40);
AT(struct hci_placement_disk, domain, 104);
AT(struct hci_placement_disk, role, 168);
AT(struct hci_placement_disk, disk_class, 172);
AT(struct hci_placement_disk, usable, 176);
AT(struct hci_placement_disk, reserved2, 180);
AT(struct hci_placement_disk, why_not, 184);
AT(struct hci_placement_disk, capacity, 312);
AT(struct hci_placement_disk, free, 320);
AT(struct hci_placement_disk, segments, 328);
AT(struct hci_placement_disk, volume_segments, 336);
SIZE(struct hci_placement_disk, 344);

AT(struct hci_placement_snapshot, size, 0);
AT(struct hci_placement_snapshot, disk_stride, 4);
AT(struct hci_placement_snapshot, ndisks, 8);
AT(struct hci_placement_snapshot, reserved, 12);
AT(struct hci_placement_snapshot, disks, 16);
SIZE(struct hci_placement_snapshot, 24);

AT(struct hci_placement_request, size, 0);
AT(struct hci_placement_request, purpose, 4);
AT(struct hci_placement_request, want, 8);
AT(struct hci_placement_request, nkeep, 12);
AT(struct hci_placement_request, keep, 16);
AT(struct hci_placement_request, segment, 24);
AT(struct hci_placement_request, replicas, 28);
AT(struct hci_placement_request, segment_bytes, 32);
AT(struct hci_placement_request, seed, 40);
AT(struct hci_placement_request, volume, 48);
AT(struct hci_placement_request, reserved, 85);
SIZE(struct hci_placement_request, 88);

AT(struct hci_placement_answer, size, 0);
AT(struct hci_placement_answer, reason_stride, 4);
AT(struct hci_placement_answer, chosen, 8);
AT(struct hci_placement_answer, scores, 16);
AT(struct hci_placement_answer, reasons, 24);
SIZE(struct hci_placement_answer, 32);

AT(struct hci_placement_ops, size, 0);
AT(struct hci_placement_ops, reserved, 4);
AT(struct hci_placement_ops, open, 8);
AT(struct hci_placement_ops, close, 16);
AT(struct hci_placement_ops, place, 24);
SIZE(struct hci_placement_ops, 32);

/* hci/plugin_scheduler.h */
AT(struct hci_scheduler_node, name, 0);
AT(struct hci_scheduler_node, usable, 64);
AT(struct hci_scheduler_node, cpus, 68);
AT(struct hci_scheduler_node, why_not, 72);
AT(struct hci_scheduler_node, memory, 200);
AT(struct hci_scheduler_node, memory_free, 208);
AT(struct hci_scheduler_node, vms, 216);
AT(struct hci_scheduler_node, vcpus, 220);
AT(struct hci_scheduler_node, local_bytes, 224);
SIZE(struct hci_scheduler_node, 232);

AT(struct hci_scheduler_snapshot, size, 0);
AT(struct hci_scheduler_snapshot, node_stride, 4);
AT(struct hci_scheduler_snapshot, nnodes, 8);
AT(struct hci_scheduler_snapshot, reserved, 12);
AT(struct hci_scheduler_snapshot, nodes, 16);
SIZE(struct hci_scheduler_snapshot, 24);

AT(struct hci_scheduler_request, size, 0);
AT(struct hci_scheduler_request, vcpus, 4);
AT(struct hci_scheduler_request, memory, 8);
AT(struct hci_scheduler_request, seed, 16);
AT(struct hci_scheduler_request, volume_bytes, 24);
AT(struct hci_scheduler_request, vm, 32);
AT(struct hci_scheduler_request, current, 96);
SIZE(struct hci_scheduler_request, 160);

AT(struct hci_scheduler_answer, size, 0);
AT(struct hci_scheduler_answer, reason_stride, 4);
AT(struct hci_scheduler_answer, chosen, 8);
AT(struct hci_scheduler_answer, scores, 16);
AT(struct hci_scheduler_answer, reasons, 24);
SIZE(struct hci_scheduler_answer, 32);

AT(struct hci_scheduler_ops, size, 0);
AT(struct hci_scheduler_ops, reserved, 4);
AT(struct hci_scheduler_ops, open, 8);
AT(struct hci_scheduler_ops, close, 16);
AT(struct hci_scheduler_ops, schedule, 24);
SIZE(struct hci_scheduler_ops, 32);

/* hci/policy.h */
AT(struct hci_policy_info, name, 0);
AT(struct hci_policy_info, plugin, 64);
AT(struct hci_policy_info, config, 320);
AT(struct hci_policy_info, plugin_name, 832);
AT(struct hci_policy_info, plugin_version, 896);
AT(struct hci_policy_info, error, 960);
AT(struct hci_policy_info, kind, 1216);
AT(struct hci_policy_info, reserved, 1220);
SIZE(struct hci_policy_info, 1224);

AT(struct hci_policy_candidate, object, 0);
AT(struct hci_policy_candidate, node, 64);
AT(struct hci_policy_candidate, rank, 128);
AT(struct hci_policy_candidate, reserved, 132);
AT(struct hci_policy_candidate, score, 136);
AT(struct hci_policy_candidate, reason, 144);
SIZE(struct hci_policy_candidate, 400);

/* hci/pool.h */
AT(struct hci_pool_opts, size, 0);
AT(struct hci_pool_opts, rebuild_delay_ms, 4);
AT(struct hci_pool_opts, name, 8);
AT(struct hci_pool_opts, policy, 16);
AT(struct hci_pool_opts, rebuild_impact, 24);
AT(struct hci_pool_opts, reserved, 28);
SIZE(struct hci_pool_opts, 32);

AT(struct hci_pool_set_opts, size, 0);
AT(struct hci_pool_set_opts, rebuild_impact, 4);
AT(struct hci_pool_set_opts, rebuild_delay_ms, 8);
SIZE(struct hci_pool_set_opts, 16);

AT(struct hci_pool_info, name, 0);
AT(struct hci_pool_info, policy, 64);
AT(struct hci_pool_info, rebuild_delay_ms, 128);
AT(struct hci_pool_info, capacity, 136);
AT(struct hci_pool_info, free, 144);
AT(struct hci_pool_info, disks, 152);
AT(struct hci_pool_info, spares, 156);
AT(struct hci_pool_info, disks_failed, 160);
AT(struct hci_pool_info, volumes, 164);
AT(struct hci_pool_info, rebuild_impact, 168);
AT(struct hci_pool_info, reserved, 172);
SIZE(struct hci_pool_info, 176);

/* hci/queue.h */
AT(struct hci_completion, tag, 0);
AT(struct hci_completion, status, 8);
AT(struct hci_completion, reserved, 12);
SIZE(struct hci_completion, 16);

/* hci/vm.h */
AT(struct hci_vm_opts, size, 0);
AT(struct hci_vm_opts, vcpus, 4);
AT(struct hci_vm_opts, name, 8);
AT(struct hci_vm_opts, node, 16);
AT(struct hci_vm_opts, memory_bytes, 24);
AT(struct hci_vm_opts, kernel, 32);
AT(struct hci_vm_opts, initrd, 40);
AT(struct hci_vm_opts, cmdline, 48);
AT(struct hci_vm_opts, volumes, 56);
AT(struct hci_vm_opts, nvolumes, 120);
AT(struct hci_vm_opts, nnics, 124);
AT(struct hci_vm_opts, nics, 128);
AT(struct hci_vm_opts, nusb, 136);
AT(struct hci_vm_opts, reserved, 140);
AT(struct hci_vm_opts, usb, 144);
SIZE(struct hci_vm_opts, 152);

AT(struct hci_vm_usb_opts, size, 0);
AT(struct hci_vm_usb_opts, reserved, 4);
AT(struct hci_vm_usb_opts, name, 8);
AT(struct hci_vm_usb_opts, node, 16);
AT(struct hci_vm_usb_opts, server, 24);
SIZE(struct hci_vm_usb_opts, 32);

AT(struct hci_vm_nic_opts, size, 0);
AT(struct hci_vm_nic_opts, model, 4);
AT(struct hci_vm_nic_opts, bridge, 8);
AT(struct hci_vm_nic_opts, mac, 16);
AT(struct hci_vm_nic_opts, mtu, 24);
AT(struct hci_vm_nic_opts, link, 28);
SIZE(struct hci_vm_nic_opts, 32);

AT(struct hci_vm_start_opts, size, 0);
AT(struct hci_vm_start_opts, reserved, 4);
AT(struct hci_vm_start_opts, node, 8);
SIZE(struct hci_vm_start_opts, 16);
AT(struct hci_migrate_opts, size, 0);
AT(struct hci_migrate_opts, max_downtime_ms, 4);
AT(struct hci_migrate_opts, to, 8);
AT(struct hci_migrate_opts, bandwidth_bytes, 16);
AT(struct hci_migrate_opts, timeout_ms, 24);
AT(struct hci_migrate_opts, with_storage, 32);
AT(struct hci_migrate_opts, postcopy_ms, 36);
AT(struct hci_migrate_opts, postcopy_passes, 40);
AT(struct hci_migrate_opts, auto_converge, 44);
AT(struct hci_migrate_opts, inflight_ms, 48);
AT(struct hci_migrate_opts, reserved, 52);
SIZE(struct hci_migrate_opts, 56);

AT(struct hci_migrate_problem, what, 0);
AT(struct hci_migrate_problem, why, 64);
AT(struct hci_migrate_problem, cure, 320);
AT(struct hci_migrate_problem, code, 508);
SIZE(struct hci_migrate_problem, 512);

AT(struct hci_vm_info, name, 0);
AT(struct hci_vm_info, uuid, 64);
AT(struct hci_vm_info, reserved, 101);
AT(struct hci_vm_info, node, 104);
AT(struct hci_vm_info, console_log, 168);
AT(struct hci_vm_info, wanted, 424);
AT(struct hci_vm_info, state, 428);
AT(struct hci_vm_info, vcpus, 432);
AT(struct hci_vm_info, nvolumes, 436);
AT(struct hci_vm_info, memory_bytes, 440);
AT(struct hci_vm_info, volumes, 448);
AT(struct hci_vm_info, nnics, 960);
AT(struct hci_vm_info, nusb, 964);
SIZE(struct hci_vm_info, 968);

AT(struct hci_vm_usb_info, name, 0);
AT(struct hci_vm_usb_info, node, 64);
AT(struct hci_vm_usb_info, server, 128);
SIZE(struct hci_vm_usb_info, 384);

AT(struct hci_vm_nic_info, bridge, 0);
AT(struct hci_vm_nic_info, port, 16);
AT(struct hci_vm_nic_info, mac, 32);
AT(struct hci_vm_nic_info, reserved, 50);
AT(struct hci_vm_nic_info, model, 52);
AT(struct hci_vm_nic_info, mtu, 56);
AT(struct hci_vm_nic_info, link, 60);
AT(struct hci_vm_nic_info, reserved2, 64);
SIZE(struct hci_vm_nic_info, 68);

/* hci/volume.h */
AT(struct hci_volume_opts, size, 0);
AT(struct hci_volume_opts, replicas, 4);
AT(struct hci_volume_opts, name, 8);
AT(struct hci_volume_opts, pool, 16);
AT(struct hci_volume_opts, policy, 24);
AT(struct hci_volume_opts, bytes, 32);
AT(struct hci_volume_opts, segment_bytes, 40);
AT(struct hci_volume_opts, on_full, 48);
AT(struct hci_volume_opts, write_timeout_ms, 52);
AT(struct hci_volume_opts, rebuild_delay_ms, 56);
AT(struct hci_volume_opts, read_timeout_ms, 64);
AT(struct hci_volume_opts, rebuild_impact, 68);
AT(struct hci_volume_opts, lease_ms, 72);
AT(struct hci_volume_opts, reserved, 76);
SIZE(struct hci_volume_opts, 80);

AT(struct hci_volume_set_opts, size, 0);
AT(struct hci_volume_set_opts, replicas, 4);
AT(struct hci_volume_set_opts, policy, 8);
SIZE(struct hci_volume_set_opts, 16);
AT(struct hci_volume_tune_opts, size, 0);
AT(struct hci_volume_tune_opts, on_full, 4);
AT(struct hci_volume_tune_opts, rebuild_delay_ms, 8);
AT(struct hci_volume_tune_opts, rebuild_impact, 16);
AT(struct hci_volume_tune_opts, read_timeout_ms, 20);
AT(struct hci_volume_tune_opts, write_timeout_ms, 24);
AT(struct hci_volume_tune_opts, lease_ms, 28);
SIZE(struct hci_volume_tune_opts, 32);
AT(struct hci_volume_move_opts, size, 0);
AT(struct hci_volume_move_opts, to, 8);
AT(struct hci_volume_move_opts, from, 16);
SIZE(struct hci_volume_move_opts, 24);

AT(struct hci_pool_balance_info, copies, 0);
AT(struct hci_pool_balance_info, bytes, 8);
AT(struct hci_pool_balance_info, most_before, 16);
AT(struct hci_pool_balance_info, least_before, 24);
AT(struct hci_pool_balance_info, most_after, 32);
AT(struct hci_pool_balance_info, least_after, 40);
AT(struct hci_pool_balance_info, load_most_before, 48);
AT(struct hci_pool_balance_info, load_least_before, 56);
AT(struct hci_pool_balance_info, load_most_after, 64);
AT(struct hci_pool_balance_info, load_least_after, 72);
AT(struct hci_pool_balance_info, load_copies, 80);
SIZE(struct hci_pool_balance_info, 88);
AT(struct hci_pool_balance_opts, size, 0);
AT(struct hci_pool_balance_opts, fill_only, 4);
SIZE(struct hci_pool_balance_opts, 8);

AT(struct hci_volume_info, name, 0);
AT(struct hci_volume_info, uuid, 64);
AT(struct hci_volume_info, reserved, 101);
AT(struct hci_volume_info, pool, 104);
AT(struct hci_volume_info, policy, 168);
AT(struct hci_volume_info, attached_by, 232);
AT(struct hci_volume_info, bytes, 296);
AT(struct hci_volume_info, segment_bytes, 304);
AT(struct hci_volume_info, generation, 312);
AT(struct hci_volume_info, replicas, 320);
AT(struct hci_volume_info, state, 324);
AT(struct hci_volume_info, replicas_out, 328);
AT(struct hci_volume_info, rebuilding, 332);
AT(struct hci_volume_info, rebuild_delay_ms, 336);
AT(struct hci_volume_info, rebuild_impact, 344);
AT(struct hci_volume_info, read_timeout_ms, 348);
AT(struct hci_volume_info, write_timeout_ms, 352);
AT(struct hci_volume_info, lease_ms, 356);
AT(struct hci_volume_info, on_full, 360);
AT(struct hci_volume_info, of_pool, 364);
AT(struct hci_volume_info, reason, 368);
SIZE(struct hci_volume_info, 624);

AT(struct hci_replica_info, segment, 0);
AT(struct hci_replica_info, state, 4);
AT(struct hci_replica_info, disk, 8);
AT(struct hci_replica_info, reserved, 45);
AT(struct hci_replica_info, node, 48);
AT(struct hci_replica_info, path, 112);
SIZE(struct hci_replica_info, 368);

AT(struct hci_attach_opts, size, 0);
AT(struct hci_attach_opts, wait_ms, 4);
AT(struct hci_attach_opts, lease_ms, 8);
AT(struct hci_attach_opts, reserved, 12);
SIZE(struct hci_attach_opts, 16);

AT(struct hci_io_opts, size, 0);
AT(struct hci_io_opts, flags, 4);
SIZE(struct hci_io_opts, 8);

AT(struct hci_volume_status, generation, 0);
AT(struct hci_volume_status, reads, 8);
AT(struct hci_volume_status, writes, 16);
AT(struct hci_volume_status, read_bytes, 24);
AT(struct hci_volume_status, write_bytes, 32);
AT(struct hci_volume_status, inflight, 40);
AT(struct hci_volume_status, resync_done, 48);
AT(struct hci_volume_status, resync_total, 56);
AT(struct hci_volume_status, resync_copied, 64);
AT(struct hci_volume_status, segments, 72);
AT(struct hci_volume_status, segments_degraded, 76);
AT(struct hci_volume_status, replicas_out, 80);
AT(struct hci_volume_status, reserved, 84);
AT(struct hci_volume_status, reads_hedged, 88);
AT(struct hci_volume_status, rebuild_delay_ms, 96);
AT(struct hci_volume_status, rebuild_impact, 104);
AT(struct hci_volume_status, read_timeout_ms, 108);
AT(struct hci_volume_status, write_timeout_ms, 112);
AT(struct hci_volume_status, lease_ms, 116);
AT(struct hci_volume_status, on_full, 120);
AT(struct hci_volume_status, reserved2, 124);
SIZE(struct hci_volume_status, 128);

/* hci/store.h */
AT(struct hci_store_copy_info, keys, 0);
AT(struct hci_store_copy_info, bytes, 8);
SIZE(struct hci_store_copy_info, 16);

/* hci/plugin_store.h */
AT(struct hci_store_kv, key, 0);
AT(struct hci_store_kv, value, 8);
AT(struct hci_store_kv, key_len, 16);
AT(struct hci_store_kv, value_len, 20);
AT(struct hci_store_kv, create_rev, 24);
AT(struct hci_store_kv, mod_rev, 32);
AT(struct hci_store_kv, lease, 40);
SIZE(struct hci_store_kv, 48);

AT(struct hci_store_cmp, key, 0);
AT(struct hci_store_cmp, rev, 8);
AT(struct hci_store_cmp, kind, 16);
AT(struct hci_store_cmp, reserved, 20);
SIZE(struct hci_store_cmp, 24);

AT(struct hci_store_op, key, 0);
AT(struct hci_store_op, value, 8);
AT(struct hci_store_op, value_len, 16);
AT(struct hci_store_op, kind, 20);
AT(struct hci_store_op, lease, 24);
SIZE(struct hci_store_op, 32);

AT(struct hci_store_request, size, 0);
AT(struct hci_store_request, kind, 4);
AT(struct hci_store_request, tag, 8);
AT(struct hci_store_request, timeout_ns, 16);
AT(struct hci_store_request, key, 24);
AT(struct hci_store_request, after, 32);
AT(struct hci_store_request, cmps, 40);
AT(struct hci_store_request, ops, 48);
AT(struct hci_store_request, cmp_stride, 56);
AT(struct hci_store_request, op_stride, 60);
AT(struct hci_store_request, ncmps, 64);
AT(struct hci_store_request, nops, 68);
AT(struct hci_store_request, limit, 72);
AT(struct hci_store_request, reserved, 76);
AT(struct hci_store_request, ttl_ns, 80);
AT(struct hci_store_request, lease, 88);
SIZE(struct hci_store_request, 96);

AT(struct hci_store_answer, size, 0);
AT(struct hci_store_answer, code, 4);
AT(struct hci_store_answer, message, 8);
AT(struct hci_store_answer, revision, 16);
AT(struct hci_store_answer, lease, 24);
AT(struct hci_store_answer, kvs, 32);
AT(struct hci_store_answer, kv_stride, 40);
AT(struct hci_store_answer, nkvs, 44);
AT(struct hci_store_answer, more, 48);
AT(struct hci_store_answer, reserved, 52);
SIZE(struct hci_store_answer, 56);

AT(struct hci_store_event, kv, 0);
AT(struct hci_store_event, deleted, 48);
AT(struct hci_store_event, reserved, 52);
SIZE(struct hci_store_event, 56);

AT(struct hci_store_change, size, 0);
AT(struct hci_store_change, event_stride, 4);
AT(struct hci_store_change, events, 8);
AT(struct hci_store_change, nevents, 16);
AT(struct hci_store_change, lost, 20);
AT(struct hci_store_change, revision, 24);
SIZE(struct hci_store_change, 32);

AT(struct hci_store_host, size, 0);
AT(struct hci_store_host, abi, 4);
AT(struct hci_store_host, ctx, 8);
AT(struct hci_store_host, log, 16);
AT(struct hci_store_host, fail, 24);
AT(struct hci_store_host, done, 32);
AT(struct hci_store_host, changed, 40);
SIZE(struct hci_store_host, 48);

AT(struct hci_store_ops, size, 0);
AT(struct hci_store_ops, reserved, 4);
AT(struct hci_store_ops, open, 8);
AT(struct hci_store_ops, close, 16);
AT(struct hci_store_ops, submit, 24);
AT(struct hci_store_ops, watch, 32);
AT(struct hci_store_ops, unwatch, 40);
SIZE(struct hci_store_ops, 48);
