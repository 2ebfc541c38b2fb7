//! Data inside the page: compressed, and in letters that no HTML parser mistakes for markup.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// The text as base64 of gzip; the same text always gives the same letters.
///
/// The gzip header holds no time and no name. Browsers unpack it with `DecompressionStream`, without a library.
pub(crate) fn packed(text: &str) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let bytes = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    base64(&bytes.expect("writing to memory does not fail"))
}

/// Base64 with padding (RFC 4648, section 4), as the browser's `atob` wants it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let block = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let bits = u32::from_be_bytes([0, block[0], block[1], block[2]]);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        let shown: Vec<String> = ["", "f", "fo", "foo", "foob"].map(|t| base64(t.as_bytes())).into();
        assert_eq!(shown, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }

    #[test]
    fn the_text_comes_back() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all("déjà </script>".as_bytes()).unwrap();
        let bytes = encoder.finish().unwrap();
        assert_eq!(packed("déjà </script>"), base64(&bytes));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "déjà </script>");
    }
}
