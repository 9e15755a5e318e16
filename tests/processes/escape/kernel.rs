//! Kernels that this machine does not have: a filter that answers a system call as a kernel without it
//! would, set before our own confinement begins.

/// What the kernel lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    Nothing,
    Landlock,
    Seccomp,
}

impl Lack {
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }

    pub fn of(word: &str) -> Self {
        match word {
            "landlock" => Self::Landlock,
            "seccomp" => Self::Seccomp,
            _ => Self::Nothing,
        }
    }

    /// From now on this process and its children live on such a kernel.
    pub fn pretend(self) {
        let calls: &[i64] = match self {
            Self::Nothing => return,
            Self::Landlock => &[libc::SYS_landlock_create_ruleset],
            Self::Seccomp => &[libc::SYS_seccomp],
        };
        let statement = |code: u32, jt, jf, k| libc::sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        };
        let mut program = vec![statement(
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            0,
            0,
            0,
        )];
        for call in calls {
            let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
            program.push(statement(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                0,
                1,
                *call as u32,
            ));
            program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, refuse));
        }
        program.push(statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ALLOW,
        ));
        let filter = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: the kernel copies the program, which lives until then.
        let set = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            )
        };
        assert_eq!(set, 0, "this kernel has no seccomp to pretend with");
    }
}

/// The version of Landlock that this machine's kernel has, 0 for none.
pub fn landlock() -> i64 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag it only answers.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) };
    version.max(0)
}
