//! What a process has used, and where it may run.
//!
//! Knows `/proc` and the clocks of Linux. Does not know what the process is.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libc::{clockid_t, cpu_set_t, pid_t, rlimit, timespec};

/// The CPU time that the process has used since it started: user and system, all its threads,
/// those that have ended included.
///
/// It is the scheduler's own count in nanoseconds. `/proc/PID/stat` counts in hundredths of a
/// second, and the files of single threads forget a thread when it ends.
/// # Errors
/// When there is no such process.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let pid = pid_t::try_from(pid).context("a process id is a positive i32")?;
    let mut clock: clockid_t = 0;
    // SAFETY: writes one clock id to where it is told.
    let code = unsafe { libc::clock_getcpuclockid(pid, &mut clock) };
    ensure!(code == 0, "process {pid} has no CPU clock: {}", io::Error::from_raw_os_error(code));
    let mut used = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec to where it is told.
    done(unsafe { libc::clock_gettime(clock, &mut used) }).context("cannot read a process's CPU clock")?;
    Ok(Duration::new(u64::try_from(used.tv_sec)?, u32::try_from(used.tv_nsec)?))
}

/// The memory of the process that is resident now, in KiB.
/// # Errors
/// When there is no such process.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    resident_in(&status).with_context(|| format!("{path} does not say VmRSS"))
}

fn resident_in(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Raises the number of files that may be open to what the system allows; children inherit it.
pub fn raise_open_files() -> Result<()> {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one rlimit to where it is told.
    done(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }).context("cannot read the limit of open files")?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads one rlimit from where it is told.
    done(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).context("cannot raise the limit of open files")
}

/// Runs `start` on one core, so that the process that it spawns stays on that core, then returns
/// the calling thread to the cores that it had.
pub fn on_core<T>(core: usize, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = cores()?;
    stay_on(&[core])?;
    let started = start();
    stay_on(&before)?;
    started
}

/// The cores that this thread may run on.
pub fn cores() -> Result<Vec<usize>> {
    let mut set = no_cores();
    // SAFETY: writes one set of that size to where it is told; zero is this thread.
    done(unsafe { libc::sched_getaffinity(0, size_of::<cpu_set_t>(), &mut set) })
        .context("cannot read the cores of this thread")?;
    // SAFETY: reads a bit of the set, and every index is below its size.
    let may_run_on = |&core: &usize| unsafe { libc::CPU_ISSET(core, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(may_run_on).collect())
}

fn stay_on(cores: &[usize]) -> Result<()> {
    let mut set = no_cores();
    for &core in cores {
        ensure!(core < libc::CPU_SETSIZE as usize, "there is no core {core}");
        // SAFETY: sets a bit of the set, and the index is below its size.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: reads one set of that size from where it is told; zero is this thread.
    done(unsafe { libc::sched_setaffinity(0, size_of::<cpu_set_t>(), &set) })
        .with_context(|| format!("cannot move to the cores {cores:?}"))
}

fn no_cores() -> cpu_set_t {
    // SAFETY: a set is an array of integers, for which zero is a value: no core.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn done(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_shows_in_the_cpu_time_of_the_process_even_when_its_thread_has_ended() {
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
        // Other work may have had the core for a part of those 50 ms.
        assert!(used > Duration::from_millis(5), "{used:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        // Linux's own ceiling: every process has a smaller id.
        let not_a_process = 1 << 22;
        assert!(cpu_time(not_a_process).is_err());
        assert!(resident_kib(not_a_process).is_err());
    }

    #[test]
    fn resident_memory_is_read_from_its_line() {
        let status = "Name:\tload\nVmHWM:\t   9000 kB\nVmRSS:\t    8124 kB\nRssAnon:\t 12 kB\n";
        assert_eq!(resident_in(status), Some(8124));
        assert_eq!(resident_in("Name:\tkthreadd\n"), None);
        assert!(resident_kib(std::process::id()).expect("this process is alive") > 0);
    }

    #[test]
    fn a_child_started_on_a_core_stays_there_and_this_thread_does_not() {
        let before = cores().expect("a thread has cores");
        let last = *before.last().expect("a thread runs on a core");
        let child =
            || Ok(std::process::Command::new("grep").args(["Cpus_allowed_list", "/proc/self/status"]).output()?);
        let said = on_core(last, child).expect("grep runs");
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), format!("Cpus_allowed_list:\t{last}"));
        assert_eq!(cores().expect("a thread has cores"), before);
    }
}
