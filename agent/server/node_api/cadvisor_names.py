"""The families of /metrics/cadvisor: names, types and texts.  Pure.

Before and next: `cadvisor_metrics` fills them.  Source: cAdvisor's Prometheus metrics.
"""

from __future__ import annotations

_COUNTERS = {
    "container_cpu_usage_seconds_total": "Cumulative cpu time consumed in seconds.",
    "container_cpu_user_seconds_total": "Cumulative user cpu time consumed in seconds.",
    "container_cpu_system_seconds_total": "Cumulative system cpu time consumed in seconds.",
    "container_cpu_cfs_periods_total": "Number of elapsed periods of the quota.",
    "container_cpu_cfs_throttled_periods_total": "Number of periods in which the quota was used up.",
    "container_cpu_cfs_throttled_seconds_total": "Total time for which the quota was used up.",
    "container_cpu_cfs_burst_periods_total": "Number of periods in which more than the quota was used.",
    "container_cpu_cfs_burst_seconds_total": "Total time that was used beyond the quota.",
    "container_memory_failcnt": "Number of times that the memory limit was hit.",
    "container_memory_failures_total": "Cumulative count of page faults.",
    "container_oom_events_total": "Count of processes killed because the memory was used up.",
    "container_fs_reads_bytes_total": "Cumulative count of bytes read",
    "container_fs_reads_total": "Cumulative count of reads completed",
    "container_fs_writes_bytes_total": "Cumulative count of bytes written",
    "container_fs_writes_total": "Cumulative count of writes completed",
    "container_network_receive_bytes_total": "Cumulative count of bytes received",
    "container_network_receive_errors_total": "Cumulative count of errors encountered while receiving",
    "container_network_receive_packets_total": "Cumulative count of packets received",
    "container_network_receive_packets_dropped_total": "Cumulative count of packets dropped while receiving",
    "container_network_transmit_bytes_total": "Cumulative count of bytes transmitted",
    "container_network_transmit_errors_total": "Cumulative count of errors encountered while transmitting",
    "container_network_transmit_packets_total": "Cumulative count of packets transmitted",
    "container_network_transmit_packets_dropped_total": "Cumulative count of packets dropped while transmitting",
    **{
        f"container_pressure_{name}_{kind}_seconds_total": f"Total time in which tasks {text} {name} congestion."
        for name in ("cpu", "memory", "io")
        for kind, text in (("stalled", "could make no progress due to"), ("waiting", "have waited due to"))
    },
}
_GAUGES = {
    "container_last_seen": "When the container was measured, in seconds since the Unix epoch.",
    "container_memory_usage_bytes": "Current memory usage in bytes, including all memory.",
    "container_memory_working_set_bytes": "Current working set in bytes.",
    "container_memory_rss": "Size of RSS in bytes.",
    "container_memory_cache": "Number of bytes of page cache.",
    "container_memory_mapped_file": "Size of mapped files in bytes.",
    "container_memory_swap": "Container swap usage in bytes.",
    "container_memory_kernel_usage": "Memory of the kernel's own in bytes.",
    "container_memory_max_usage_bytes": "Largest memory usage so far in bytes.",
    "container_memory_total_active_file_bytes": "Page cache used lately in bytes.",
    "container_memory_total_inactive_file_bytes": "Page cache not used lately in bytes.",
    "container_fs_usage_bytes": "Number of bytes of the writable layer; of the machine, of a file system.",
    "container_fs_limit_bytes": "Size of a file system of the machine in bytes.",
    "container_fs_inodes_total": "Inodes of a file system of the machine.",
    "container_fs_inodes_free": "Free inodes of a file system of the machine.",
    "container_processes": "Number of processes running inside the container.",
    "container_threads": "Number of threads running inside the container.",
    "container_threads_max": "Number of threads that may run inside the container, 0 for any.",
    "container_start_time_seconds": "Start time of the container since unix epoch in seconds.",
    "container_spec_cpu_period": "Period of the CPU quota in microseconds.",
    "container_spec_cpu_quota": "CPU quota in microseconds of a period.",
    "container_spec_cpu_shares": "CPU shares of the container.",
    "container_spec_memory_limit_bytes": "Memory limit of the container in bytes, 0 for none.",
    "container_spec_memory_swap_limit_bytes": "Swap limit of the container in bytes, 0 for none.",
    "container_spec_memory_reservation_limit_bytes": "Memory that is kept for the container in bytes.",
}
_MACHINE = {
    "machine_cpu_cores": "Number of logical CPU cores.",
    "machine_memory_bytes": "Amount of memory installed on the machine.",
    "machine_swap_bytes": "Amount of swap memory available on the machine.",
}
KINDS = (
    *(("gauge", name, text) for name, text in _MACHINE.items()),
    *(("counter", name, text) for name, text in _COUNTERS.items()),
    *(("gauge", name, text) for name, text in _GAUGES.items()),
)
"""Type, name and text of each."""
