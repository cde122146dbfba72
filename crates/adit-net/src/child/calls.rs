//! Calls: what neither a program in a sandbox nor its server has any use for, and the kernel refuses them.
//!
//! A filter (seccomp(2)) that says no to a list and yes to the rest. A list of what is allowed would be
//! stronger, and would break a program of which nobody knows what it needs. Refused is what reaches into
//! other processes or the machine itself, and what most holes of the kernel were behind. There is no way to
//! take a filter off; forks and programs inherit it.

use std::io;

use rustix::io::Errno;
use rustix::thread::set_no_new_privs;

use super::exec::last_error;

/// What is refused, in words.
pub(super) const IN_WORDS: &str =
    "tracing, mounts, namespaces, modules, keyrings, bpf, perf and io_uring are refused";

/// Answered with EPERM.
#[rustfmt::skip]
const REFUSED: &[libc::c_long] = &[
    // Other processes: their memory and descriptors.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The tree of files, and files by a number that no folder leads to.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_open_tree, libc::SYS_move_mount,
    libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Namespaces of others; one's own are below.
    libc::SYS_setns,
    // The kernel and the machine.
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    libc::SYS_reboot, libc::SYS_acct, libc::SYS_syslog, libc::SYS_sethostname, libc::SYS_setdomainname,
    libc::SYS_settimeofday, libc::SYS_clock_settime,
    // Keyrings, which programs of one user share.
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    // Large, new or rarely looked at.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
];

/// Not every C library has a name for it.
const KEXEC_FILE_LOAD: libc::c_long = if cfg!(target_arch = "x86_64") { 320 } else { 294 };

/// Refused with these flags (clone(2), `CLONE_NEWUSER` and its like): a user namespace makes root of anybody.
const NAMESPACES: u32 = 0x7e02_0000;
/// `CLONE_NEWTIME`, which is a flag of unshare and a signal for clone.
const TIME_NAMESPACE: u32 = 0x80;

/// How the kernel calls the machine (`linux/audit.h`); none where the list was never tried.
const MACHINE: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    Some(0xc000_003e)
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    Some(0xc000_00b7)
} else {
    None
};
/// Numbers of x32 begin there: the same calls under other numbers.
const X32: u32 = if cfg!(target_arch = "x86_64") { 0x4000_0000 } else { u32::MAX };

// Instructions of the filter (`linux/bpf_common.h`), and its answers.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOT_PERMITTED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// Places in `struct seccomp_data`, in bytes. The lower half of the first argument is where a machine of
/// this list has it: both are little-endian.
const NUMBER_AT: u32 = 0;
const MACHINE_AT: u32 = 4;
const ARGUMENT_AT: u32 = 16;

/// Instructions around the list.
const HEAD: usize = 4;
const TAIL: usize = 12;
/// A jump is as wide as a byte.
const _: () = assert!(HEAD + REFUSED.len() + TAIL < 256);

const FILTER: [libc::sock_filter; HEAD + REFUSED.len() + TAIL] = filter();

const fn filter() -> [libc::sock_filter; HEAD + REFUSED.len() + TAIL] {
    let length = HEAD + REFUSED.len() + TAIL;
    let (no_such_call, not_permitted) = (length - 1, length - 2);
    let tail = HEAD + REFUSED.len();
    let (of_clone, of_unshare) = (tail + 4, tail + 7);
    let mut filter = [allow(); HEAD + REFUSED.len() + TAIL];
    filter[0] = load(MACHINE_AT);
    // 32-bit programs call by other numbers: their machine is another one.
    filter[1] = jump(1, JUMP_IF_EQUAL, of_machine(), 2, not_permitted);
    filter[2] = load(NUMBER_AT);
    filter[3] = jump(3, JUMP_IF_AT_LEAST, X32, not_permitted, HEAD);
    let mut index = 0;
    while index < REFUSED.len() {
        let at = HEAD + index;
        filter[at] = jump(at, JUMP_IF_EQUAL, number(REFUSED[index]), not_permitted, at + 1);
        index += 1;
    }
    // clone3 has its flags where no filter can see them. Who is told that there is none takes clone.
    filter[tail] = jump(tail, JUMP_IF_EQUAL, number(libc::SYS_clone3), no_such_call, tail + 1);
    filter[tail + 1] = jump(tail + 1, JUMP_IF_EQUAL, number(libc::SYS_clone), of_clone, tail + 2);
    filter[tail + 2] =
        jump(tail + 2, JUMP_IF_EQUAL, number(libc::SYS_unshare), of_unshare, tail + 3);
    filter[of_clone] = load(ARGUMENT_AT);
    filter[of_clone + 1] =
        jump(of_clone + 1, JUMP_IF_ANY_BIT, NAMESPACES, not_permitted, of_clone + 2);
    filter[of_unshare] = load(ARGUMENT_AT);
    let any = NAMESPACES | TIME_NAMESPACE;
    filter[of_unshare + 1] =
        jump(of_unshare + 1, JUMP_IF_ANY_BIT, any, not_permitted, of_unshare + 2);
    filter[not_permitted] = answer(NOT_PERMITTED);
    filter[no_such_call] = answer(NO_SUCH_CALL);
    filter
}

const fn allow() -> libc::sock_filter {
    answer(ALLOW)
}

const fn answer(what: u32) -> libc::sock_filter {
    libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: what }
}

const fn load(place: u32) -> libc::sock_filter {
    libc::sock_filter { code: LOAD, jt: 0, jf: 0, k: place }
}

/// At this place: goes on at `yes` or `no`, which are places further down.
const fn jump(at: usize, code: u16, k: u32, yes: usize, no: usize) -> libc::sock_filter {
    libc::sock_filter { code, jt: ahead(at, yes), jf: ahead(at, no), k }
}

const fn ahead(from: usize, to: usize) -> u8 {
    let distance = to - from - 1;
    assert!(distance < 256);
    distance.to_le_bytes()[0]
}

const fn number(call: libc::c_long) -> u32 {
    assert!(0 <= call && call < 4096);
    let [a, b, ..] = call.to_le_bytes();
    u32::from_le_bytes([a, b, 0, 0])
}

const fn of_machine() -> u32 {
    match MACHINE {
        Some(machine) => machine,
        None => 0,
    }
}

/// Whether this kernel can refuse them, on this kind of machine.
pub(super) fn is_supported() -> bool {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one number, which lives through the call.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    };
    MACHINE.is_some() && answer == 0
}

/// Has them refused to this thread, and to what it forks and executes. Between fork and exec: calls with
/// numbers only. No new privileges are to be had any more before that.
pub(super) fn refuse() -> Result<(), Errno> {
    install(0)
}

/// Has the calls refused that a [`Sandbox`](super::Sandbox) refuses to its program: to this whole process, for
/// good, and to what it forks. Setuid programs have no rights of others for it any more, either. False where
/// the kernel cannot do that.
///
/// For a server whose program is in a sandbox, once it is set up.
///
/// # Errors
/// The kernel does not take the filter, or a thread has another one.
pub fn refuse_calls() -> io::Result<bool> {
    if !is_supported() {
        return Ok(false);
    }
    set_no_new_privs(true)?;
    install(libc::SECCOMP_FILTER_FLAG_TSYNC)?;
    Ok(true)
}

fn install(flags: libc::c_ulong) -> Result<(), Errno> {
    static INSTRUCTIONS: [libc::sock_filter; FILTER.len()] = FILTER;
    let program = libc::sock_fprog {
        len: u16::try_from(FILTER.len()).unwrap_or(0),
        // The kernel only reads it.
        filter: INSTRUCTIONS.as_ptr().cast_mut(),
    };
    // SAFETY: the program and its instructions live through the call and are as many as it says.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    match done {
        0 => Ok(()),
        // With TSYNC, the thread that cannot follow.
        1.. => Err(Errno::BUSY),
        _ => Err(last_error()),
    }
}

// Miri knows no seccomp.
#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::*;

    /// What the filter answers, by the rules of `Documentation/networking/filter.rst`.
    fn asked(machine: u32, number: u32, argument: u32) -> u32 {
        let mut loaded = 0;
        let mut at = 0;
        loop {
            let libc::sock_filter { code, jt, jf, k } = FILTER[at];
            at += 1;
            let holds = match code {
                LOAD => {
                    loaded = match k {
                        NUMBER_AT => number,
                        MACHINE_AT => machine,
                        ARGUMENT_AT => argument,
                        place => panic!("nothing is at {place}"),
                    };
                    continue;
                }
                RETURN => return k,
                JUMP_IF_EQUAL => loaded == k,
                JUMP_IF_AT_LEAST => loaded >= k,
                JUMP_IF_ANY_BIT => loaded & k != 0,
                code => panic!("there is no {code}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    #[test]
    fn what_is_on_the_list_is_refused_and_nothing_else() {
        let machine = of_machine();
        let clone = [libc::SYS_clone, libc::SYS_unshare].map(number);
        for call in 0..1000 {
            let expected = if REFUSED.iter().any(|refused| number(*refused) == call) {
                NOT_PERMITTED
            } else if call == number(libc::SYS_clone3) {
                NO_SUCH_CALL
            } else {
                ALLOW
            };
            assert_eq!(asked(machine, call, 0), expected, "call {call}");
            assert_eq!(
                asked(machine ^ 1, call, 0),
                NOT_PERMITTED,
                "call {call} of another machine"
            );
            if cfg!(target_arch = "x86_64") {
                assert_eq!(asked(machine, X32 | call, 0), NOT_PERMITTED, "call {call} of x32");
            }
            let expected = if clone.contains(&call) { NOT_PERMITTED } else { expected };
            let user = libc::CLONE_NEWUSER.cast_unsigned();
            assert_eq!(asked(machine, call, user | 17), expected, "call {call}, for a namespace");
        }
        let threads = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_THREAD;
        let threads = threads.cast_unsigned();
        assert_eq!(asked(machine, number(libc::SYS_clone), threads | TIME_NAMESPACE), ALLOW);
        assert_eq!(asked(machine, number(libc::SYS_unshare), threads), ALLOW);
        assert_eq!(asked(machine, number(libc::SYS_unshare), TIME_NAMESPACE), NOT_PERMITTED);
    }

    #[test]
    fn the_kernel_takes_the_list_and_a_thread_lives_on_with_it() {
        if !is_supported() {
            println!("skipped: no seccomp here");
            return;
        }
        let call = |call: libc::c_long| {
            // SAFETY: null pointers and zeroes, with which none of these does anything.
            let done = unsafe { libc::syscall(call, 0_usize, 0_usize, 0_usize, 0_usize, 0_usize) };
            if done < 0 { Some(last_error()) } else { None }
        };
        let thread = std::thread::spawn(move || {
            set_no_new_privs(true).unwrap();
            refuse().unwrap();
            let refused = [
                libc::SYS_mount,
                libc::SYS_bpf,
                libc::SYS_perf_event_open,
                libc::SYS_io_uring_setup,
                libc::SYS_process_vm_readv,
                libc::SYS_init_module,
            ];
            let after = refused.map(call);
            let user = libc::CLONE_NEWUSER;
            // SAFETY: a number only.
            let unshared = unsafe { libc::syscall(libc::SYS_unshare, user) };
            let namespace = (unshared < 0).then(last_error);
            // A thread is made without clone3, and inherits the list.
            let inner = std::thread::spawn(move || call(libc::SYS_mount)).join().unwrap();
            (after, [namespace, inner], call(libc::SYS_clone3), call(libc::SYS_getpid))
        });
        let (after, others, clone3, getpid) = thread.join().unwrap();
        assert_eq!(after, [Some(Errno::PERM); 6]);
        assert_eq!(others, [Some(Errno::PERM); 2]);
        assert_eq!((clone3, getpid), (Some(Errno::NOSYS), None));
    }
}
