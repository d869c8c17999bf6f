//! Frames between this process, the keeper and its workers: a header, bytes beside it, and at times a descriptor.
//!
//! Nobody is trusted to be well: lengths are bounded, and whoever reads or writes here sets time-outs on the socket.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes of a header: what is told of a module, whose exports may have many names.
const MOST_HEADER: u32 = 256 << 20;

/// One frame takes no longer, however slowly its bytes come.
const MOST_TIME: Duration = Duration::from_secs(60);

/// Bytes of both lengths.
const PREFIX: usize = 12;

/// What was received.
#[derive(Debug)]
pub struct Frame<H> {
    /// The header.
    pub header: H,
    /// The bytes beside it.
    pub bytes: Vec<u8>,
    /// The descriptor beside it.
    pub descriptor: Option<OwnedFd>,
}

/// Sends a header, and what goes beside it.
pub fn send<H: Serialize>(
    mut socket: &UnixStream,
    header: &H,
    pieces: &[&[u8]],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let header = postcard::to_stdvec(header).map_err(io::Error::other)?;
    let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    let mut prefix = [0; PREFIX];
    prefix[..4].copy_from_slice(&(header.len() as u32).to_le_bytes());
    prefix[4..].copy_from_slice(&length.to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let sent = loop {
        match sendmsg(socket, &[IoSlice::new(&prefix)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            sent => break sent?,
        }
    };
    socket.write_all(&prefix[sent..])?;
    socket.write_all(&header)?;
    pieces.iter().try_for_each(|piece| socket.write_all(piece))
}

/// Receives one frame, with so many bytes beside its header at the most; `None` where the other side has closed.
pub fn receive<H: DeserializeOwned>(mut socket: &UnixStream, most: u64) -> io::Result<Option<Frame<H>>> {
    let mut prefix = [0; PREFIX];
    let mut descriptor = None;
    let read = receive_start(socket, &mut prefix, &mut descriptor)?;
    if read == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut prefix[read..])?;
    let (header, bytes) = prefix.split_at(4);
    let header = header.try_into().map(u32::from_le_bytes).map_err(io::Error::other)?;
    let bytes = bytes.try_into().map(u64::from_le_bytes).map_err(io::Error::other)?;
    if header > MOST_HEADER || bytes > most {
        return Err(io::Error::new(ErrorKind::InvalidData, "a frame is too large"));
    }
    let until = Instant::now() + MOST_TIME;
    let header = exactly(socket, header.into(), until)?;
    let header = postcard::from_bytes(&header).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok(Some(Frame { header, bytes: exactly(socket, bytes, until)?, descriptor }))
}

/// The first bytes, with which a descriptor comes. As at the end of a stream, a reset is the other side's end.
fn receive_start(socket: &UnixStream, bytes: &mut [u8], descriptor: &mut Option<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET | rustix::io::Errno::PIPE) => return Ok(0),
            read => break read?,
        }
    };
    if read.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("this process has no descriptor left for what was handed over"));
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            *descriptor = descriptors.next();
        }
    }
    Ok(read.bytes)
}

/// As many bytes, for which no more room is made than really comes.
fn exactly(socket: &UnixStream, length: u64, until: Instant) -> io::Result<Vec<u8>> {
    const PIECE: u64 = 1 << 20;
    let mut bytes = Vec::with_capacity(length.min(PIECE) as usize);
    while (bytes.len() as u64) < length {
        let piece = PIECE.min(length - bytes.len() as u64);
        let read = socket.take(piece).read_to_end(&mut bytes)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if Instant::now() > until {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(bytes)
}
