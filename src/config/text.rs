//! Files that users write: read up to a bound, without waiting for pipes, in the encodings that editors use.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::path::Path;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// A file that cannot be read. The message names neither the file, which the caller knows, nor its content.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system reports an error.
    #[error(transparent)]
    System(#[from] io::Error),
    /// Reading it could block, or never end.
    #[error("it is {0}, not a file")]
    NotAFile(&'static str),
    /// It is larger than anything of its kind.
    #[error("it has more than {} KiB, the limit", .0 / 1024)]
    TooLarge(u64),
    /// It is not text.
    #[error("it is not text: {0}")]
    NotText(&'static str),
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// [`FileError`]; a pipe, a device, a socket or a folder is refused without being opened.
pub fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(FileError::NotAFile(kind(meta.file_type())));
    }
    let mut bytes = Vec::new();
    // Its size may be unknown (/proc), or change while it is read.
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        Err(FileError::TooLarge(limit))
    } else {
        Ok(bytes)
    }
}

/// Reads a text file of at most `limit` bytes, in UTF-8 or UTF-16, with or without a byte order mark. Anything else is
/// taken for Windows-1252, with a warning.
///
/// # Errors
/// [`FileError`]
pub fn read_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let (text, is_guessed) = decode(&read_file(path, limit)?)?;
    if is_guessed {
        tracing::warn!(
            "{} is not UTF-8: read as Windows-1252; save it as UTF-8 to be sure",
            path.display()
        );
    }
    Ok(text)
}

/// The text of a file's bytes, and whether its encoding is only a guess.
///
/// # Errors
/// [`FileError::NotText`]
pub fn decode(bytes: &[u8]) -> Result<(String, bool), FileError> {
    if bytes.starts_with(b"\xff\xfe\0\0") || bytes.starts_with(b"\0\0\xfe\xff") {
        return Err(FileError::NotText("UTF-32 is not read; save it as UTF-8"));
    }
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        let text = encoding.decode_without_bom_handling_and_without_replacement(&bytes[mark..]);
        let text = text.ok_or(FileError::NotText(
            "its byte order mark announces Unicode, but its bytes are not",
        ))?;
        return without_nul(text.into_owned()).map(|text| (text, false));
    }
    // Windows' own tools write UTF-16 also without a mark. What people write begins with ASCII.
    let wide = match bytes {
        [first, 0, ..] if *first != 0 => Some(UTF_16LE),
        [0, second, ..] if *second != 0 => Some(UTF_16BE),
        _ => None,
    };
    if let Some(text) =
        wide.and_then(|it| it.decode_without_bom_handling_and_without_replacement(bytes))
    {
        return without_nul(text.into_owned()).map(|text| (text, false));
    }
    let (text, is_guessed) = match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_string(), false),
        Err(_) => (
            WINDOWS_1252
                .decode_without_bom_handling(bytes)
                .0
                .into_owned(),
            true,
        ),
    };
    without_nul(text).map(|text| (text, is_guessed))
}

fn without_nul(text: String) -> Result<String, FileError> {
    if text.contains('\0') {
        Err(FileError::NotText("it holds NUL bytes"))
    } else {
        Ok(text)
    }
}

#[cfg(unix)]
fn kind(file_type: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match file_type {
        it if it.is_dir() => "a folder",
        it if it.is_fifo() => "a named pipe",
        it if it.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(not(unix))]
fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a folder"
    } else {
        "a device"
    }
}

/// Makes a named pipe, for unit tests.
#[cfg(test)]
pub(crate) fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_in_the_encodings_that_editors_write() {
        let utf16 = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| {
            [
                mark,
                &"é=1\n".encode_utf16().flat_map(bytes).collect::<Vec<_>>(),
            ]
            .concat()
        };
        for (bytes, expected, is_guessed) in [
            ("é=1\n".as_bytes().to_vec(), "é=1\n", false),
            ("\u{feff}é=1\n".as_bytes().to_vec(), "é=1\n", false),
            (utf16(b"\xff\xfe", u16::to_le_bytes), "é=1\n", false),
            (utf16(b"\xfe\xff", u16::to_be_bytes), "é=1\n", false),
            (b"A\0=\0".to_vec(), "A=", false),
            (b"\0A\0=".to_vec(), "A=", false),
            (b"\xe9=\x80\n".to_vec(), "é=€\n", true),
            (Vec::new(), "", false),
        ] {
            assert_eq!(
                decode(&bytes).unwrap(),
                (expected.to_string(), is_guessed),
                "{bytes:?}"
            );
        }
        for bytes in [
            &b"\xff\xfeA\0\x00\xd8"[..],
            b"\xff\xfe\0\0A\0\0\0",
            b"a=b\0c",
            b"\xef\xbb\xbf\xff",
        ] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("ten"), "0123456789").unwrap();
        assert_eq!(read_text(&path("ten"), 10).unwrap(), "0123456789");
        let said = |name: &str, limit| read_text(&path(name), limit).unwrap_err().to_string();
        assert!(said("ten", 9).contains("more than 0 KiB"));
        assert!(said("none", 9).contains("No such file"));
        assert_eq!(said(".", 9), "it is a folder, not a file");
        make_pipe(&path("pipe"));
        assert_eq!(said("pipe", 9), "it is a named pipe, not a file");
        let device = read_text(Path::new("/dev/zero"), 9)
            .unwrap_err()
            .to_string();
        assert_eq!(device, "it is a device, not a file");
        // The system reports no size here.
        assert!(read_text(Path::new("/proc/self/status"), 10).is_err());
        assert!(read_text(Path::new("/proc/self/status"), 1 << 20).is_ok());
    }
}
