//! Which system calls the process may still make: a seccomp filter (seccomp(2)). Threads made later are bound by it.
//!
//! Calls on the list go on. Calls that this program never makes and an intruder would (running a program, looking into
//! other processes, loading code into the kernel) end the process. All others fail with ENOSYS, because the C library knows what
//! to do then, as it does on a kernel that has no such call.

use std::io;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
    SECCOMP_RET_KILL_PROCESS, c_long, sock_filter,
};

/// Calls that may be made in any way, the frequent ones first: old kernels go through the list.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // The hot path.
    libc::SYS_epoll_pwait, libc::SYS_read, libc::SYS_recvfrom, libc::SYS_write, libc::SYS_writev, libc::SYS_sendto,
    libc::SYS_sendmsg, libc::SYS_futex, libc::SYS_getrandom, libc::SYS_clock_gettime, libc::SYS_epoll_ctl,
    libc::SYS_accept4, libc::SYS_close, libc::SYS_setsockopt, libc::SYS_shutdown,
    // Sockets, readiness.
    libc::SYS_accept, libc::SYS_recvmsg, libc::SYS_listen, libc::SYS_getsockopt,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_epoll_create1, libc::SYS_eventfd2, libc::SYS_ppoll,
    libc::SYS_fcntl, libc::SYS_readv, libc::SYS_pipe2, libc::SYS_dup, libc::SYS_dup3,
    // Files; which ones is Landlock's business.
    libc::SYS_openat, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_fstatfs, libc::SYS_statfs,
    libc::SYS_lseek, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_ftruncate,
    libc::SYS_fallocate, libc::SYS_fadvise64, libc::SYS_getdents64, libc::SYS_linkat, libc::SYS_unlinkat,
    libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_mkdirat, libc::SYS_readlinkat, libc::SYS_faccessat,
    libc::SYS_faccessat2, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_flock, libc::SYS_getcwd, libc::SYS_umask,
    // Memory.
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_mlock, libc::SYS_mlock2,
    libc::SYS_munlock,
    // Threads, signals, time.
    libc::SYS_exit, libc::SYS_exit_group, libc::SYS_set_robust_list, libc::SYS_set_tid_address, libc::SYS_rseq,
    libc::SYS_membarrier, libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_gettid, libc::SYS_getpid,
    libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait, libc::SYS_sigaltstack, libc::SYS_restart_syscall, libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep, libc::SYS_clock_getres, libc::SYS_gettimeofday,
    // Facts.
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_uname, libc::SYS_sysinfo,
    libc::SYS_getrusage, libc::SYS_getrlimit,
];

/// Older forms that the C libraries use where the machine has them.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access,
    libc::SYS_unlink, libc::SYS_link, libc::SYS_rename, libc::SYS_mkdir, libc::SYS_readlink, libc::SYS_chmod,
    libc::SYS_dup2, libc::SYS_pipe, libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// Nothing in this program makes these, so that whoever does is an intruder.
#[rustfmt::skip]
const DEADLY: &[c_long] = &[
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev,
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_setns, libc::SYS_unshare,
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_init_module, libc::SYS_finit_module,
    libc::SYS_kexec_load, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
];

/// What an argument of a call must be.
enum Check {
    /// One of these values.
    OneOf(&'static [u32]),
    /// Has one of these bits.
    Has(u32),
    /// Has none of these bits.
    HasNone(u32),
}

/// Calls that may be made in one way only, with the number of the argument that decides.
#[rustfmt::skip]
const CHECKED: &[(c_long, u32, Check)] = &[
    // To the service manager; to ask for the addresses of the interfaces. No new connections over a network.
    (libc::SYS_socket, 0, Check::OneOf(&[libc::AF_UNIX as u32, libc::AF_NETLINK as u32])),
    // For the latter; no other address can be given to a socket of these two families that would matter.
    (libc::SYS_bind, 2, Check::OneOf(&[size_of::<libc::sockaddr_nl>() as u32])),
    // Threads, no processes. (clone3, whose flags a filter cannot see, is not on the list.)
    (libc::SYS_clone, 0, Check::Has(libc::CLONE_THREAD as u32)),
    // No memory that can be run.
    (libc::SYS_mmap, 2, Check::HasNone(libc::PROT_EXEC as u32)),
    (libc::SYS_mprotect, 2, Check::HasNone(libc::PROT_EXEC as u32)),
    // Not TIOCSTI, which types into a terminal, nor anything of devices.
    (libc::SYS_ioctl, 1, Check::OneOf(&[libc::FIONBIO as u32, libc::FIOCLEX as u32, libc::TCGETS as u32, libc::TIOCGWINSZ as u32])),
    // Names of threads and of memory.
    (libc::SYS_prctl, 0, Check::OneOf(&[libc::PR_SET_NAME as u32, libc::PR_GET_NAME as u32, PR_SET_VMA])),
];

const PR_SET_VMA: u32 = 0x5356_4d41;

// struct seccomp_data: the call's number, the machine, the instruction, six arguments of 64 bits.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// linux/audit.h
const THIS_MACHINE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// Leaves this thread, and threads made by it, the system calls that the server needs. Privileges must have been given up
/// ([`super::process::give_up_privileges`]). Fails where the kernel, or this program's knowledge of the machine, has no
/// such thing.
pub fn restrict() -> io::Result<()> {
    let machine = THIS_MACHINE.ok_or(io::ErrorKind::Unsupported)?;
    let mut filter = program(machine);
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_mut_ptr(),
    };
    // Without this flag kernels before 5.16 slow the whole process down, to guard it against code that it runs for
    // others; it runs none.
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: `program` points to `len` instructions; the kernel copies them and keeps no pointer.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn program(machine: u32) -> Vec<sock_filter> {
    let mut filter =
        vec![load(MACHINE), jump(BPF_JEQ, machine, 1, 0), leave(SECCOMP_RET_KILL_PROCESS), load(NUMBER)];
    for call in ALLOWED.iter().chain(ALLOWED_HERE) {
        filter.extend([jump(BPF_JEQ, *call as u32, 0, 1), leave(SECCOMP_RET_ALLOW)]);
    }
    for (call, argument, check) in CHECKED {
        let mut body = vec![load(ARGUMENTS + 8 * argument + if cfg!(target_endian = "big") { 4 } else { 0 })];
        let refused = leave(SECCOMP_RET_ERRNO | libc::EPERM as u32);
        match check {
            Check::OneOf(values) => {
                for value in *values {
                    body.extend([jump(BPF_JEQ, *value, 0, 1), leave(SECCOMP_RET_ALLOW)]);
                }
                body.push(refused);
            }
            Check::Has(bits) => {
                body.extend([jump(BPF_JSET, *bits, 0, 1), leave(SECCOMP_RET_ALLOW), refused]);
            }
            Check::HasNone(bits) => {
                body.extend([jump(BPF_JSET, *bits, 1, 0), leave(SECCOMP_RET_ALLOW), refused]);
            }
        }
        filter.push(jump(BPF_JEQ, *call as u32, 0, body.len() as u8));
        filter.append(&mut body);
    }
    for call in DEADLY {
        filter.extend([jump(BPF_JEQ, *call as u32, 0, 1), leave(SECCOMP_RET_KILL_PROCESS)]);
    }
    filter.push(leave(SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    filter
}

/// Loads a word of the call's description.
fn load(offset: u32) -> sock_filter {
    sock_filter { code: (BPF_LD | BPF_W | BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

/// Compares the loaded word, and skips `yes` or `no` instructions.
fn jump(comparison: u32, with: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | comparison | BPF_K) as u16, jt: yes, jf: no, k: with }
}

fn leave(action: u32) -> sock_filter {
    sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: action }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_on_two_lists() {
        let checked = CHECKED.iter().map(|(call, ..)| call);
        let mut all: Vec<_> = ALLOWED.iter().chain(ALLOWED_HERE).chain(checked).chain(DEADLY).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    /// What the filter decides, by running its program as the kernel does.
    fn decide(machine: u32, call: c_long, arguments: [u32; 6]) -> u32 {
        let filter = program(THIS_MACHINE.unwrap());
        let (mut at, mut word) = (0, 0);
        loop {
            let step = &filter[at];
            at += 1;
            let code = u32::from(step.code);
            if code == BPF_RET | BPF_K {
                return step.k;
            } else if code == BPF_LD | BPF_W | BPF_ABS {
                word = match step.k {
                    NUMBER => call as u32,
                    MACHINE => machine,
                    other => arguments[((other - ARGUMENTS) / 8) as usize],
                };
            } else {
                let yes = if code == BPF_JMP | BPF_JEQ | BPF_K { word == step.k } else { word & step.k != 0 };
                at += usize::from(if yes { step.jt } else { step.jf });
            }
        }
    }

    #[test]
    fn calls_in_use_go_on_hostile_ones_end_the_process_others_are_unknown() {
        let machine = THIS_MACHINE.unwrap();
        let (kill, refused) = (SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ERRNO | libc::EPERM as u32);
        let unknown = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        let none = [0; 6];
        for (call, arguments, answer) in [
            (libc::SYS_read, none, SECCOMP_RET_ALLOW),
            (libc::SYS_getrlimit, none, SECCOMP_RET_ALLOW),
            (libc::SYS_execve, none, kill),
            (libc::SYS_keyctl, none, kill),
            (libc::SYS_clone3, none, unknown),
            (libc::SYS_kill, none, unknown),
            (libc::SYS_setuid, none, unknown),
            (libc::SYS_io_uring_setup, none, unknown),
            (libc::SYS_socket, [libc::AF_INET as u32, 0, 0, 0, 0, 0], refused),
            (libc::SYS_socket, [libc::AF_INET6 as u32, 0, 0, 0, 0, 0], refused),
            (libc::SYS_socket, [libc::AF_UNIX as u32, 0, 0, 0, 0, 0], SECCOMP_RET_ALLOW),
            (libc::SYS_clone, [libc::SIGCHLD as u32, 0, 0, 0, 0, 0], refused),
            (
                libc::SYS_clone,
                [(libc::CLONE_VM | libc::CLONE_THREAD) as u32, 0, 0, 0, 0, 0],
                SECCOMP_RET_ALLOW,
            ),
            (libc::SYS_mmap, [0, 0, 3, 0, 0, 0], SECCOMP_RET_ALLOW),
            (libc::SYS_mmap, [0, 0, 5, 0, 0, 0], refused),
            (libc::SYS_mprotect, [0, 0, 7, 0, 0, 0], refused),
            (libc::SYS_ioctl, [0, libc::TIOCSTI as u32, 0, 0, 0, 0], refused),
            (libc::SYS_ioctl, [0, libc::FIONBIO as u32, 0, 0, 0, 0], SECCOMP_RET_ALLOW),
            (libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u32, 1, 0, 0, 0, 0], refused),
        ] {
            assert_eq!(decide(machine, call, arguments), answer, "{call} {arguments:?}");
        }
        assert_eq!(decide(machine ^ 1, libc::SYS_read, none), kill, "a call by the rules of another machine");
        // The 32-bit form of x86-64 has numbers of its own.
        assert_eq!(decide(machine, 0x4000_0000 | libc::SYS_read, none), unknown);
    }

    #[test]
    fn a_bound_thread_works_on_and_can_start_no_program() {
        // A thread of its own: the rest of the tests go on as before.
        let bound = std::thread::spawn(|| {
            super::super::process::give_up_privileges().unwrap();
            if let Err(error) = restrict() {
                return eprintln!("this kernel has no seccomp: {error}");
            }
            let inner = std::thread::spawn(|| std::fs::read("/proc/self/status").map(|text| text.len()));
            assert!(inner.join().unwrap().unwrap() > 0);
            assert!(
                std::net::TcpStream::connect("127.0.0.1:1").unwrap_err().raw_os_error() == Some(libc::EPERM)
            );
            // The fork is refused, so that this does not even get to the deadly call.
            assert!(std::process::Command::new("/bin/true").status().is_err());
        });
        bound.join().unwrap();
        assert!(std::process::Command::new("/bin/true").status().unwrap().success());
    }
}
