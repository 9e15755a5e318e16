//! Bytes as words that can be said: five letters for two bytes, consonant and vowel in turn. The words
//! are proquints (D. S. Wilkerson, arXiv 0901.4016). It finds no mistakes: who reads words back compares
//! a hash.

const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
const VOWELS: &[u8; 4] = b"aiou";

/// The words of an even number of bytes; of an odd one the last is left out.
pub fn encode(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.chunks_exact(2).map(word).collect();
    words.join(" ")
}

/// Reads words of either case, with any blanks between them.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 3);
    for word in text.split_whitespace() {
        bytes.extend_from_slice(&pair(word)?);
    }
    Some(bytes)
}

fn word(pair: &[u8]) -> String {
    let bits = u16::from_be_bytes([pair[0], pair[1]]);
    let consonant = |shift: u32| CONSONANTS[usize::from(bits >> shift & 15)];
    let vowel = |shift: u32| VOWELS[usize::from(bits >> shift & 3)];
    let letters = [
        consonant(12),
        vowel(10),
        consonant(6),
        vowel(4),
        consonant(0),
    ];
    letters.map(char::from).iter().collect()
}

fn pair(word: &str) -> Option<[u8; 2]> {
    let letters: &[u8; 5] = word.as_bytes().try_into().ok()?;
    let mut bits = 0u16;
    for (index, letter) in letters.iter().enumerate() {
        let (letters, width): (&[u8], u32) = match index % 2 {
            0 => (CONSONANTS, 4),
            _ => (VOWELS, 2),
        };
        let letter = letter.to_ascii_lowercase();
        let value = letters.iter().position(|one| *one == letter)?;
        bits = bits << width | value as u16;
    }
    Some(bits.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pairs_come_back_and_nothing_else_is_read() {
        for bits in 0..=u16::MAX {
            let bytes = bits.to_be_bytes();
            assert_eq!(decode(&encode(&bytes)), Some(bytes.to_vec()));
        }
        assert_eq!(decode(" BABAB\n  babab "), Some(vec![0; 4]));
        for wrong in ["baba", "bababa", "babac", "eabab", "bäab", "babab bab"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
