//! A worker: one process for all peers, which share what it remembers.
//!
//! `adit serve --worker 7000 -- cargo run -p examples --bin std_worker`
#![forbid(unsafe_code)]

// region: program
use std::io::{Error, Read, Result, Write, stdin, stdout};

fn main() -> Result<()> {
    let mut said = 0;
    while let Some((number, kind, text)) = read_frame(&mut stdin().lock())? {
        match kind {
            b'D' => {
                said += text.len();
                write_frame(number, b'D', &format!("{said} bytes from all of you\n"))?;
            }
            b'E' => write_frame(number, b'E', "")?, // all is said
            _ => {} // somebody has come or gone, or a peer has taken much
        }
    }
    Ok(())
}

fn read_frame(from: &mut impl Read) -> Result<Option<(u64, u8, Vec<u8>)>> {
    let (mut length, mut number, mut kind) = ([0; 4], [0; 8], [0; 1]);
    if from.read(&mut length[..1])? == 0 {
        return Ok(None); // the server is gone
    }
    from.read_exact(&mut length[1..])?;
    from.read_exact(&mut number)?;
    from.read_exact(&mut kind)?;
    let mut text = vec![0; u32::from_be_bytes(length) as usize - 9];
    from.read_exact(&mut text)?;
    Ok(Some((u64::from_be_bytes(number), kind[0], text)))
}

fn write_frame(number: u64, kind: u8, text: &str) -> Result<()> {
    let length = (9 + u32::try_from(text.len()).map_err(Error::other)?).to_be_bytes();
    stdout().write_all(&[&length[..], &number.to_be_bytes(), &[kind], text.as_bytes()].concat())?;
    stdout().flush()
}
// endregion
