//! One process.
#![expect(
    clippy::disallowed_methods,
    reason = "the harness starts real processes, waits for them in real time and reads their real logs"
)]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Pause between two looks at something that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Bytes of a log that an error shows.
const LOG_TAIL_BYTES: usize = 4096;

/// Why a process is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started, or its log could not be made.
    #[error("process could not be started name={name}")]
    Start {
        /// The process.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It ended while something was expected of it.
    #[error("process ended name={name} status={status}\n{log}")]
    Ended {
        /// The process.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// It did not do in time what was expected.
    #[error("process is late name={name} waiting_for={what:?} waited={waited:?}\n{log}")]
    Late {
        /// The process.
        name: String,
        /// What was expected.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// The end of its log.
        log: String,
    },
    /// A signal or a wait was refused.
    #[error("process cannot be controlled name={name}")]
    Control {
        /// The process.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// A process of ours. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `program`; what it says on both outputs goes to the file `log`.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`].
    pub fn spawn(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        log: &Path,
    ) -> Result<Self, ProcessError> {
        let spawn = || {
            let out = File::create(log)?;
            let err = out.try_clone()?;
            clean_command(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err)
                .spawn()
        };
        let child = spawn().map_err(|source| ProcessError::Start {
            name: name.to_owned(),
            source,
        })?;
        Ok(Self::of(name, child, log))
    }

    /// A process that was started otherwise; `log` is what it says.
    pub(super) fn of(name: &str, child: Child, log: &Path) -> Self {
        Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            status: None,
        }
    }

    /// Its pid, valid until it was waited for.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with all it said.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All it said so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it runs (or is paused).
    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap_or(None);
        }
        self.status.is_none()
    }

    /// Waits until it accepts connections at `address`.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Late`], with the end of the log.
    pub fn wait_listening(
        &mut self,
        address: SocketAddr,
        within: Duration,
    ) -> Result<(), ProcessError> {
        self.wait_for(&format!("a listener at {address}"), within, |_| {
            TcpStream::connect_timeout(&address, LOOK_INTERVAL * 20).is_ok()
        })
    }

    /// Waits until its log holds `text`, such as a line of its banner.
    ///
    /// # Errors
    ///
    /// As [`Process::wait_listening`].
    pub fn wait_saying(&mut self, text: &str, within: Duration) -> Result<(), ProcessError> {
        self.wait_for(text, within, |process| process.log().contains(text))
    }

    fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        is_so: impl Fn(&Self) -> bool,
    ) -> Result<(), ProcessError> {
        let begun = Instant::now();
        loop {
            if is_so(self) {
                return Ok(());
            }
            if !self.is_running() {
                // It may have done it and ended between the two looks.
                return if is_so(self) {
                    Ok(())
                } else {
                    Err(self.ended())
                };
            }
            if begun.elapsed() >= within {
                return Err(self.late(what, within));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Control`]; never because it had ended before.
    pub fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        self.begin_kill()?;
        let status = self.child.wait().map_err(|source| self.control(source))?;
        self.status = Some(status);
        Ok(status)
    }

    /// Sends the signal of [`Process::kill`] without waiting, so that several can die at once.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Control`]; never because it had ended before.
    pub fn begin_kill(&mut self) -> Result<(), ProcessError> {
        self.child.kill().map_err(|source| self.control(source))
    }

    /// Freezes it (SIGSTOP): it neither runs nor answers, and its connections stay open.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Control`].
    pub fn pause(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::STOP)
    }

    /// Thaws it (SIGCONT).
    ///
    /// # Errors
    ///
    /// As [`Process::pause`].
    pub fn resume(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM: SIGINT is ignored by what a shell runs in the background) and waits until it has.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Late`] when it does not within the time; it still runs then.
    pub fn stop(&mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        if self.is_running() {
            self.signal(Signal::TERM)?;
        }
        self.wait_ended(within)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Late`] when it does not within the time; it still runs then.
    pub fn wait_ended(&mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        wait_until(within, || !self.is_running());
        self.status.ok_or_else(|| self.late("its end", within))
    }

    fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        if !self.is_running() {
            return Err(self.ended());
        }
        // Not reaped yet, so the pid is still ours, even if it ended this moment.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("the pid of a child");
        kill_process(pid, signal).map_err(|errno| self.control(errno.into()))
    }

    fn ended(&self) -> ProcessError {
        ProcessError::Ended {
            name: self.name.clone(),
            status: self.status.expect("it was seen to have ended"),
            log: self.log_tail(),
        }
    }

    fn late(&self, what: &str, waited: Duration) -> ProcessError {
        ProcessError::Late {
            name: self.name.clone(),
            what: what.to_owned(),
            waited,
            log: self.log_tail(),
        }
    }

    fn control(&self, source: io::Error) -> ProcessError {
        ProcessError::Control {
            name: self.name.clone(),
            source,
        }
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let from = log.len().saturating_sub(LOG_TAIL_BYTES);
        let from = (from..=log.len()).find(|&at| log.is_char_boundary(at));
        log[from.unwrap_or(0)..].to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about an error here, and the next wait would show it.
        let _ = self.kill();
    }
}

/// A command that gets none of this program's settings: what stands in `LEDGERLINE_…` would become its flags.
pub(super) fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LEDGERLINE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Looks every few milliseconds whether `is_so`, for at most `within`. Returns whether it came to be.
pub fn wait_until(within: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if begun.elapsed() >= within {
            return false;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}
