use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A number from which every random choice of a run is derived, by name.
///
/// Two consumers with different labels get unrelated streams, so adding a consumer never shifts another one's
/// numbers. There is no default: a seed is always somebody's argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// A seed that depends on this one and on the label, and on nothing else.
    pub fn child(self, label: &str) -> Seed {
        // FNV-1a over the label, then two rounds of the SplitMix64 finaliser: stable over versions and platforms.
        let hash = label
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Seed(finalise(finalise(self.0) ^ hash))
    }

    /// A seed that depends on this one and on a number.
    pub fn index(self, index: u64) -> Seed {
        Seed(finalise(finalise(self.0) ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// A generator that yields the same stream on every platform.
    pub fn rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }
}

fn finalise(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_differ_by_label_and_repeat() {
        assert_eq!(Seed(7).child("data"), Seed(7).child("data"));
        assert_ne!(Seed(7).child("data"), Seed(7).child("weights"));
        assert_ne!(Seed(7).child("data"), Seed(8).child("data"));
        assert_ne!(Seed(7).index(0), Seed(7).index(1));
    }
}
