//! Headers written by hand, right and wrong.

use std::path::{Path, PathBuf};

use super::*;

/// Writes headers.
#[derive(Clone, Default)]
struct Writer(Vec<u8>);

impl Writer {
    /// The front of a file of version 3.
    fn new(tensors: u64, pairs: u64) -> Writer {
        Writer(b"GGUF".to_vec()).u32(3).u64(tensors).u64(pairs)
    }

    fn u32(mut self, number: u32) -> Writer {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Writer {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn text(mut self, text: &str) -> Writer {
        self = self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    fn tensor(self, name: &str, axes: &[u64], kind: u32, offset: u64) -> Writer {
        let named = self.text(name).u32(axes.len() as u32);
        axes.iter().fold(named, |writer, axis| writer.u64(*axis)).u32(kind).u64(offset)
    }

    /// Fills up to the next multiple of 32, then so many bytes.
    fn room(mut self, bytes: usize) -> Writer {
        self.0.resize(self.0.len().next_multiple_of(32) + bytes, 0);
        self
    }

    fn refused(&self, part: &str) {
        let reason = header::read(&self.0).err().unwrap();
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn axes_come_slowest_first_and_places_are_in_the_file() {
    let file = Writer::new(2, 0).tensor("a", &[4, 2], 0, 0).tensor("b", &[32, 3], 8, 32).room(32 + 3 * 34);
    let header = header::read(&file.0).unwrap();
    let [a, b] = &header.tensors[..] else { panic!() };
    assert_eq!((a.shape.as_slice(), b.shape.as_slice()), (&[2, 4][..], &[3, 32][..]));
    assert_eq!(b.bytes, a.bytes.start + 32..file.0.len());
}

#[test]
fn what_a_header_claims_is_checked() {
    let one = |axes: &[u64], kind, offset, room| Writer::new(1, 0).tensor("x", axes, kind, offset).room(room);
    one(&[4], 0, 0, 15).refused("claims the bytes 0..16 behind the header, and there are 15");
    one(&[4], 0, 8, 64).refused("wanted a multiple of 32");
    one(&[4], 0, u64::MAX - 31, 64).refused("`x`");
    one(&[31, 32], 8, 0, 4096).refused("no whole number of Q8_0 blocks");
    one(&[1 << 33, 1 << 33], 0, 0, 64).refused("`x`");
    one(&[1, 1, 1, 1, 1], 0, 0, 64).refused("5 axes");
    one(&[4], 16, 0, 64).refused("an IQ format, which is not read");
    one(&[4], 999, 0, 64).refused("GGML type 999: unknown");
    Writer::new(2, 0).tensor("x", &[16], 0, 0).tensor("y", &[4], 0, 32).room(64).refused("share bytes");
    Writer::new(1 << 60, 0).refused("it claims 1152921504606846976 tensors, and there is room for 0");
    Writer::new(0, 1).room(0).refused("it claims 1 metadata entries, and there is room for 0");
    Writer::new(0, 1).text("k").u32(12).refused("its header ends at byte 37, where 8 more");
    Writer::new(0, u64::MAX).room(64).refused("metadata entries");
    let list = |kind, count| Writer::new(0, 1).text("k").u32(9).u32(kind).u64(count).room(64);
    list(8, 1 << 61).refused("at the key `k`: it claims 2305843009213693952 entries of a list");
    list(9, 1).refused("list of lists");
    list(77, 1).refused("unknown kind 77");
    Writer::new(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1).room(64).refused("`k` stands twice");
    Writer::new(0, 1).text("general.alignment").u32(4).u32(24).room(64).refused("wanted a power of two");
    Writer(b"GGUF".to_vec()).u32(1).refused("version 1");
    Writer(b"GGUF".to_vec()).u32(3_u32.swap_bytes()).refused("big-endian");
    Writer(b"GGML".to_vec()).u32(3).refused("does not begin");
}

#[test]
fn parts_of_a_split_file_are_found_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let part = |number: u32| {
        let counted = Writer::new(1, 1).text("split.count").u32(4).u32(2);
        let path = folder.path().join(format!("m-{number:05}-of-00002.gguf"));
        std::fs::write(path, counted.tensor(&format!("t{number}"), &[4], 0, 0).room(16).0).unwrap();
    };
    part(1);
    let second = folder.path().join("m-00002-of-00002.gguf");
    assert!(Weights::open(folder.path()).unwrap_err().to_string().contains("m-00002-of-00002.gguf"));
    part(2);
    for path in [folder.path(), &second] {
        assert_eq!(Weights::open(path).unwrap().names().collect::<Vec<_>>(), ["t1", "t2"]);
    }
    std::fs::rename(&second, folder.path().join("other.gguf")).unwrap();
    let error = Weights::open(&folder.path().join("other.gguf")).unwrap_err().to_string();
    assert!(error.contains("one of 2 parts"), "{error}");
    assert!(Weights::open(folder.path()).unwrap_err().to_string().contains("name one of them"));
    let paths = ["a-00001-of-00002.gguf", "b-00002-of-00002.gguf"].map(PathBuf::from);
    assert!(!are_parts_of_one(&paths) && are_parts_of_one(&paths[..1]));
    assert_eq!(part_of(Path::new("a-1-of-2.gguf")), None);
}
