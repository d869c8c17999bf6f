//! Where there are no compiling processes.

use super::*;
use parking_lot::Mutex;

/// Compiling processes are made for Linux.
pub(in crate::compiler) struct Apart(Mutex<Option<String>>);

pub(in crate::compiler) enum Running {}

impl Apart {
    pub(in crate::compiler) fn new(settings: &CompilerSettings) -> Self {
        Self(Mutex::new(why_not(settings)))
    }

    pub(in crate::compiler) fn adjust(&self, settings: &CompilerSettings) {
        *self.0.lock() = why_not(settings);
    }

    pub(in crate::compiler) fn in_process(&self) -> Option<String> {
        Some(self.0.lock().clone().unwrap_or_else(|| "compiler: :in_process".to_owned()))
    }

    pub(in crate::compiler) fn workers(&self) -> (u64, u64) {
        (0, 0)
    }

    pub(in crate::compiler) fn wake(&self, shared: &Shared) {
        if let Some(why) = self.0.lock().clone() {
            shared.notice(Notice::InProcess(why));
        }
    }

    pub(in crate::compiler) fn rest(&self) {}
}

fn why_not(settings: &CompilerSettings) -> Option<String> {
    settings.executable.is_some().then(|| "compiling processes are made for Linux".to_owned())
}

impl Runner {
    pub(super) fn prepare(&mut self) {}

    pub(super) fn dismiss(&mut self) {}

    pub(super) fn rest(&mut self) {}

    pub(super) fn compile_apart(&mut self, job: Job) {
        self.compile_here(job);
    }

    pub(super) fn go_on(&mut self, running: Running) {
        match running {}
    }
}
