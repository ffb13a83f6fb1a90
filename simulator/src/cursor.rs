//! Cursors: opaque to the client, bound to their query, and stateless on the server.

use sha2::{Digest, Sha256};

use super::query::{Refusal, first_eight};

/// A position in a paginated read. Each endpoint decides what the numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// The instant or day from which the read continues.
    pub(crate) since: i64,
    /// The instant up to which a feed is read.
    pub(crate) until: i64,
    /// How many records are behind.
    pub(crate) offset: i64,
    /// Whether an empty page was served at this place already.
    pub(crate) paused: bool,
    /// Whether the page at this position was repeated already.
    pub(crate) repeated: bool,
}

/// Makes and reads the cursors of one simulator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursors {
    /// Cursors of another key are unknown here.
    pub(crate) key: u64,
}

const POSITION_BYTES: usize = 25;
const PRINT_BYTES: usize = 8;
const SEAL_BYTES: usize = 8;

impl Cursors {
    /// The cursor of a position in the paginated read of a query.
    pub(crate) fn seal(self, print: u64, position: Position) -> String {
        let mut open = [0; POSITION_BYTES + PRINT_BYTES];
        open[..8].copy_from_slice(&position.since.to_be_bytes());
        open[8..16].copy_from_slice(&position.until.to_be_bytes());
        open[16..24].copy_from_slice(&position.offset.to_be_bytes());
        open[24] = u8::from(position.paused) | u8::from(position.repeated) << 1;
        open[POSITION_BYTES..].copy_from_slice(&print.to_be_bytes());
        let seal = self.hash(b"seal", &open).to_be_bytes();
        let mut bytes = seal.to_vec();
        bytes.extend(self.mask(&seal, &open));
        encode(&bytes)
    }

    /// The position of a cursor, if it was created here and for the same query.
    pub(crate) fn open(self, print: u64, cursor: &str) -> Result<Position, Refusal> {
        let unknown = || Refusal::bad("invalid or expired pagination cursor");
        let bytes = decode(cursor).ok_or_else(unknown)?;
        if bytes.len() != SEAL_BYTES + POSITION_BYTES + PRINT_BYTES {
            return Err(unknown());
        }
        let (seal, masked) = bytes.split_at(SEAL_BYTES);
        let open = self.mask(seal, masked);
        if self.hash(b"seal", &open).to_be_bytes() != seal {
            return Err(unknown());
        }
        let number = |at: usize| first_eight(&open[at..]) as i64;
        if number(POSITION_BYTES) as u64 != print {
            return Err(Refusal::bad(
                "Parameters differ from previous paginated request.",
            ));
        }
        let flags = open[24];
        Ok(Position {
            since: number(0),
            until: number(8),
            offset: number(16),
            paused: flags & 1 != 0,
            repeated: flags & 2 != 0,
        })
    }

    fn hash(self, purpose: &[u8], bytes: &[u8]) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.key.to_be_bytes());
        hash.update(purpose);
        hash.update(bytes);
        first_eight(&hash.finalize())
    }

    /// Obfuscates or restores bytes, so that clients cannot read a position from a cursor.
    fn mask(self, seal: &[u8], bytes: &[u8]) -> Vec<u8> {
        let blocks = bytes.chunks(8).zip(0u8..);
        let masked = blocks.flat_map(|(block, number)| {
            let stream = self.hash(&[number], seal).to_be_bytes();
            block
                .iter()
                .zip(stream)
                .map(|(byte, mask)| byte ^ mask)
                .collect::<Vec<u8>>()
        });
        masked.collect()
    }
}

/// The standard base 64 alphabet, padding included: its `+`, `/` and `=` show whether a client encodes its
/// query strings.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, index| {
            bits << 8 | u32::from(chunk.get(index).copied().unwrap_or(0))
        });
        for index in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.as_bytes().chunks(4) {
        let letters = chunk.iter().take_while(|letter| **letter != b'=').count();
        if chunk.len() != 4 || letters < 2 {
            return None;
        }
        let mut bits = 0u32;
        for letter in &chunk[..letters] {
            bits = bits << 6 | ALPHABET.iter().position(|known| known == letter)? as u32;
        }
        bits <<= 6 * (4 - letters);
        bytes.extend(&bits.to_be_bytes()[1..letters]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSORS: Cursors = Cursors { key: 7 };

    fn positions() -> impl Iterator<Item = Position> {
        (0..200).map(|index| Position {
            since: index * 86_400_000,
            until: -index,
            offset: index,
            paused: index % 2 == 0,
            repeated: index % 3 == 0,
        })
    }

    #[test]
    fn a_cursor_leads_back_to_its_position() {
        for position in positions() {
            assert_eq!(CURSORS.open(5, &CURSORS.seal(5, position)), Ok(position));
        }
    }

    #[test]
    fn a_cursor_of_another_query_is_told_from_a_garbled_one() {
        let cursor = CURSORS.seal(5, Position::default());
        let message =
            |result: Result<Position, Refusal>| result.expect_err("must be refused").message;
        assert!(message(CURSORS.open(6, &cursor)).starts_with("Parameters differ"));
        for garbled in [&cursor[1..], "", "abc", "é", &cursor.replace('=', "")] {
            assert!(
                message(CURSORS.open(5, garbled)).contains("invalid or expired"),
                "{garbled}"
            );
        }
        assert!(message(Cursors { key: 8 }.open(5, &cursor)).contains("invalid or expired"));
    }

    #[test]
    fn some_cursors_need_escaping_in_a_url() {
        assert!(positions().any(|position| CURSORS.seal(5, position).contains(['+', '/'])));
    }
}
