"""The seccomp profile of a container that asks for none: what programs need, and nothing that reaches the host.

What is left out fails with EPERM, as if for want of a privilege; for calls newer than it knows a runtime answers
ENOSYS.
"""

from typing import Final

_PROCESSES: Final = """
    execve execveat exit exit_group fork getpgid getpgrp getpid getppid getsid gettid kill pidfd_open
    pidfd_send_signal prctl restart_syscall setpgid setsid set_tid_address tgkill tkill vfork wait4 waitid waitpid
    get_robust_list set_robust_list rseq membarrier get_thread_area set_thread_area
"""

_TRACING: Final = "process_vm_readv process_vm_writev ptrace"  # safe since Linux 4.8; the engine needs a newer one

_IDENTITY: Final = """
    capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
    getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
    setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
"""

_FILES: Final = """
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
    flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
    ioctl lchown lchown32 link linkat lseek _llseek lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at
    newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv rename renameat renameat2 rmdir sendfile sendfile64 splice stat stat64 statfs statfs64 statx
    symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat
    utimensat_time64 utimes vmsplice write writev
"""

_ATTRIBUTES: Final = """
    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
    lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
"""

_WAITING: Final = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch poll ppoll ppoll_time64
    pselect6 pselect6_time64 select _newselect signalfd signalfd4 io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 io_setup io_submit futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
"""

_SIGNALS: Final = """
    alarm pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn
"""

_MEMORY: Final = """
    brk cachestat madvise map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect
    mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages
"""

_SOCKETS: Final = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64
    recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
"""

_SYSTEM_V: Final = """
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
    mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
"""

_TIME: Final = """
    adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time times timer_create
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
"""

_SCHEDULING: Final = """
    getcpu getpriority ioprio_get ioprio_set sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield setpriority
"""

_REST: Final = """
    getrandom getrlimit getrusage landlock_add_rule landlock_create_ruleset landlock_restrict_self prlimit64 seccomp
    setrlimit sysinfo ugetrlimit uname uretprobe
"""

ALWAYS: Final = tuple(
    " ".join(
        (
            *(_PROCESSES, _TRACING, _IDENTITY, _FILES, _ATTRIBUTES, _WAITING, _SIGNALS, _MEMORY, _SOCKETS),
            *(_SYSTEM_V, _TIME, _SCHEDULING, _REST),
        )
    ).split()
)

WITH_CAPABILITY: Final[dict[str, tuple[str, ...]]] = {
    "CAP_BPF": ("bpf",),
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    "CAP_PERFMON": ("perf_event_open",),
    "CAP_SYS_ADMIN": (
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "listmount",
        "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr",
        "move_mount", "open_tree", "open_tree_attr", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname",
        "sethostname", "setns", "statmount", "syslog", "umount", "umount2", "unshare",
    ),
    "CAP_SYS_BOOT": ("reboot",),
    "CAP_SYS_CHROOT": ("chroot",),
    "CAP_SYS_MODULE": ("delete_module", "finit_module", "init_module"),
    "CAP_SYS_NICE": (
        "get_mempolicy", "mbind", "migrate_pages", "move_pages", "set_mempolicy", "set_mempolicy_home_node",
    ),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise"),
    "CAP_SYS_RAWIO": ("ioperm", "iopl"),
    "CAP_SYS_TIME": ("clock_settime", "clock_settime64", "settimeofday", "stime"),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
    "CAP_SYSLOG": ("syslog",),
}  # fmt: skip

ON_MACHINE: Final[dict[str, tuple[str, ...]]] = {
    "x86_64": ("arch_prctl", "modify_ldt"),
    "aarch64": ("arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"),
    "ppc64le": ("sync_file_range2", "swapcontext"),
    "riscv64": ("riscv_flush_icache", "riscv_hwprobe"),
    "s390x": ("s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"),
}

ARCHITECTURES: Final[dict[str, tuple[str, ...]]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
}
