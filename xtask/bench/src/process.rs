//! CPU time, memory and cores of processes, from `/proc` and the clocks of Linux.

use std::collections::HashSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libc::{clockid_t, cpu_set_t, pid_t, rlimit, timespec};

/// Returns the CPU time that the process has used since its start: user and system time of all its threads, also of
/// those that have ended.
///
/// The scheduler counts it in nanoseconds. `/proc/PID/stat` has only hundredths of a second, and the files of threads
/// do not include threads that have ended.
///
/// # Errors
/// If there is no such process.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let pid = pid_t::try_from(pid).context("a process id is a positive i32")?;
    let mut clock: clockid_t = 0;
    // SAFETY: the function writes one clock id through the pointer. Only an invalid pointer could break that, and this
    // one is a reference to a local variable.
    let code = unsafe { libc::clock_getcpuclockid(pid, &mut clock) };
    ensure!(code == 0, "process {pid} has no CPU clock: {}", io::Error::from_raw_os_error(code));
    let mut used = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above, the function writes one timespec to a local variable.
    check(unsafe { libc::clock_gettime(clock, &mut used) }).context("cannot read a process's CPU clock")?;
    Ok(Duration::new(u64::try_from(used.tv_sec)?, u32::try_from(used.tv_nsec)?))
}

/// Returns the resident memory of the process in KiB.
///
/// # Errors
/// If there is no such process.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_kib(&status, "VmRSS").with_context(|| format!("{path} has no line VmRSS"))
}

/// Returns the memory of the process in KiB, including that of its anonymous files (`memfd_create`), whether it is
/// mapped or not.
///
/// # Errors
/// If there is no such process.
pub fn memory_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let mut kib = 0;
    // Mapped pages of anonymous files are in `RssShmem`, and all of their pages in the files themselves.
    for name in ["RssAnon", "RssFile"] {
        kib += parse_kib(&status, name).with_context(|| format!("{path} has no line {name}"))?;
    }
    let mut counted = HashSet::new();
    let folder = format!("/proc/{pid}/fd");
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        let path = entry?.path();
        // A file can be closed at any time.
        let (Ok(target), Ok(file)) = (path.read_link(), path.metadata()) else { continue };
        if target.to_string_lossy().starts_with("/memfd:") && counted.insert((file.dev(), file.ino())) {
            kib += file.blocks() / 2;
        }
    }
    Ok(kib)
}

fn parse_kib(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Raises the limit of open files to the maximum of the system. Child processes inherit it.
pub fn raise_open_files() -> Result<()> {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the function writes one rlimit through the pointer, which is a reference to a local variable.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })
        .context("cannot read the limit of open files")?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the function reads one rlimit through the pointer, which is a reference to a local variable.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).context("cannot raise the limit of open files")
}

/// Calls `start` on one core, so that a process that it spawns stays on that core. Then the calling thread gets its
/// previous cores back.
pub fn on_core<T>(core: usize, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = cores()?;
    set_cores(&[core])?;
    let started = start();
    set_cores(&before)?;
    started
}

/// Returns the cores on which this thread can run.
pub fn cores() -> Result<Vec<usize>> {
    let mut set = no_cores();
    // SAFETY: the function writes at most the given number of bytes, which is the size of the local variable. Thread 0
    // is the calling thread.
    check(unsafe { libc::sched_getaffinity(0, size_of::<cpu_set_t>(), &mut set) })
        .context("cannot read the cores of this thread")?;
    // SAFETY: the function reads one bit of the set. An index above its size would read other memory, but the range
    // below ends at the size.
    let can_run_on = |&core: &usize| unsafe { libc::CPU_ISSET(core, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(can_run_on).collect())
}

fn set_cores(cores: &[usize]) -> Result<()> {
    let mut set = no_cores();
    for &core in cores {
        ensure!(core < libc::CPU_SETSIZE as usize, "there is no core {core}");
        // SAFETY: the function sets one bit of the set. An index above its size would write other memory, but the line
        // before has checked it.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: the function reads at most the given number of bytes, which is the size of the local variable. Thread 0
    // is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<cpu_set_t>(), &set) })
        .with_context(|| format!("cannot move to the cores {cores:?}"))
}

fn no_cores() -> cpu_set_t {
    // SAFETY: the type must be valid if all its bytes are zero. `cpu_set_t` is an array of integers, so it is, and the
    // set is empty.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn the_cpu_time_of_a_process_includes_threads_that_have_ended() {
        let me = std::process::id();
        let before = cpu_time(me).expect("this process is alive");
        let work = || {
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(50) {
                std::hint::spin_loop();
            }
        };
        std::thread::spawn(work).join().expect("spinning does not panic");
        let used = cpu_time(me).expect("this process is alive") - before;
        // Other processes may have used the core for a part of the 50 ms.
        assert!(used > Duration::from_millis(5), "{used:?}");
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        // The limit of Linux: every process has a smaller id.
        let not_a_process = 1 << 22;
        assert!(cpu_time(not_a_process).is_err());
        assert!(resident_kib(not_a_process).is_err());
    }

    #[test]
    fn resident_memory_is_parsed_from_its_line() {
        let status = "Name:\tload\nVmHWM:\t   9000 kB\nVmRSS:\t    8124 kB\nRssAnon:\t 12 kB\n";
        assert_eq!(parse_kib(status, "VmRSS"), Some(8124));
        assert_eq!(parse_kib("Name:\tkthreadd\n", "VmRSS"), None);
        assert!(resident_kib(std::process::id()).expect("this process is alive") > 0);
    }

    #[test]
    fn a_child_that_is_started_on_a_core_stays_there_and_the_calling_thread_does_not() {
        let before = cores().expect("a thread has cores");
        let last = *before.last().expect("a thread runs on a core");
        let child =
            || Ok(std::process::Command::new("grep").args(["Cpus_allowed_list", "/proc/self/status"]).output()?);
        let output = on_core(last, child).expect("grep runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("Cpus_allowed_list:\t{last}"));
        assert_eq!(cores().expect("a thread has cores"), before);
    }
}
