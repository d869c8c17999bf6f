//! Where there are no compiling processes.

use super::*;

/// Compiling processes are made for Linux.
pub(in crate::compiler) struct Apart(Option<String>);

pub(in crate::compiler) enum Running {}

impl Apart {
    pub(in crate::compiler) fn new(settings: &CompilerSettings) -> Self {
        Self(settings.executable.is_some().then(|| "compiling processes are made for Linux".to_owned()))
    }

    pub(in crate::compiler) fn in_process(&self) -> Option<String> {
        Some(self.0.clone().unwrap_or_else(|| "compiler: :in_process".to_owned()))
    }

    pub(in crate::compiler) fn workers(&self) -> (u64, u64) {
        (0, 0)
    }

    pub(in crate::compiler) fn wake(&self, shared: &Shared) {
        if let Some(why) = &self.0 {
            shared.notice(Notice::InProcess(why.clone()));
        }
    }

    pub(in crate::compiler) fn rest(&self) {}
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
