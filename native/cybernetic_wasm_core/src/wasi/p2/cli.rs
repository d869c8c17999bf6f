//! `wasi:cli`: the command line and the environment, standard streams, the terminal's among them, and how a program ends.

use super::add;
use super::entry::{count, push, system};
use crate::error::Error;
use crate::invocation::Stream;
use crate::store::StoreData;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::cli::WasiCliView;
use wasmtime_wasi::p2::bindings::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr, terminal_stdin,
    terminal_stdout,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    add!(linker: environment, exit, stdin, stdout, stderr, terminal_input, terminal_output);
    add!(linker: terminal_stdin, terminal_stdout, terminal_stderr);
    Ok(())
}

impl environment::Host for StoreData {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        count(self)?;
        system(self)?.ctx()?.cli().get_environment()
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        count(self)?;
        system(self)?.ctx()?.cli().get_arguments()
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        count(self)?;
        Ok(None)
    }
}

impl exit::Host for StoreData {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(Error::Exit(u32::from(status.is_err())).into())
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(Error::Exit(code.into()).into())
    }
}

impl stdin::Host for StoreData {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        count(self)?;
        let stream = system(self)?.input();
        push(self, stream)
    }
}

impl stdout::Host for StoreData {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        count(self)?;
        let stream = system(self)?.output(Stream::Stdout);
        push(self, stream)
    }
}

impl stderr::Host for StoreData {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        count(self)?;
        let stream = system(self)?.output(Stream::Stderr);
        push(self, stream)
    }
}

impl terminal_input::Host for StoreData {}

impl terminal_input::HostTerminalInput for StoreData {
    fn drop(&mut self, terminal: Resource<terminal_input::TerminalInput>) -> wasmtime::Result<()> {
        count(self)?;
        terminal_input::HostTerminalInput::drop(&mut system(self)?.ctx()?.cli(), terminal)
    }
}

impl terminal_output::Host for StoreData {}

impl terminal_output::HostTerminalOutput for StoreData {
    fn drop(&mut self, terminal: Resource<terminal_output::TerminalOutput>) -> wasmtime::Result<()> {
        count(self)?;
        terminal_output::HostTerminalOutput::drop(&mut system(self)?.ctx()?.cli(), terminal)
    }
}

impl terminal_stdin::Host for StoreData {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<terminal_input::TerminalInput>>> {
        count(self)?;
        system(self)?.ctx()?.cli().get_terminal_stdin()
    }
}

impl terminal_stdout::Host for StoreData {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<terminal_output::TerminalOutput>>> {
        count(self)?;
        system(self)?.ctx()?.cli().get_terminal_stdout()
    }
}

impl terminal_stderr::Host for StoreData {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<terminal_output::TerminalOutput>>> {
        count(self)?;
        system(self)?.ctx()?.cli().get_terminal_stderr()
    }
}
