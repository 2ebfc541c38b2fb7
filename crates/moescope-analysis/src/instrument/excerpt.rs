//! How much of a text instruments read.
//!
//! Counting routes costs next to nothing for each token, and rare paths and tokens are met in long texts only. What looks at vectors, trains, or changes
//! the model and runs it anew costs a thousand times as much, and a sample of tens of thousands of tokens leaves its intervals narrow: of a long text it
//! is given an excerpt.

use moescope_base::{Seed, Tokens};
use moescope_trace::TokenTable;
use rand::seq::SliceRandom;

use super::Material;
use super::material::Known;
use crate::AnalysisError;

/// Tokens of an excerpt, unless others are asked for.
pub const EXCERPT: usize = 32_768;
/// The share of these that a short excerpt has.
const SHORT: usize = 4;
/// Sequences that an excerpt has in any case, however long they are.
const SEQUENCES: usize = 64;

/// How much of a text an instrument reads.
///
/// An excerpt of a text that is longer, and has more than 64 sequences, is a sample: whole sequences drawn at random, each with the same chance, in the
/// order of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// All of it.
    Whole,
    /// An excerpt.
    #[default]
    Excerpt,
    /// A quarter of an excerpt, for instruments that run the model anew for each of many changes.
    ShortExcerpt,
}

impl Reads {
    /// Tokens that are read, at most, where excerpts have so many; none where all are read.
    pub fn tokens(self, excerpt: usize) -> Option<usize> {
        match self {
            Reads::Whole => None,
            Reads::Excerpt => Some(excerpt),
            Reads::ShortExcerpt => Some(excerpt.div_ceil(SHORT)),
        }
    }

    /// The same in words.
    pub fn in_words(self, excerpt: usize) -> String {
        match self.tokens(excerpt) {
            None => "all of the text".into(),
            Some(most) => {
                format!("at most {most} tokens, and {SEQUENCES} windows in any case, drawn at random")
            }
        }
    }

    /// Tokens that are read, at most, of a text of so many in windows of one length.
    pub fn at_most(self, excerpt: usize, tokens: usize, positions: usize) -> usize {
        self.tokens(excerpt).map_or(tokens, |most| tokens.min(most.max(SEQUENCES * positions)))
    }
}

/// A sample of a text, and what the model made of it.
pub(super) struct Excerpt {
    /// Tokens that were asked for, at most.
    most: usize,
    /// Its batches, as large as those of the text.
    batches: Vec<(Tokens, TokenTable)>,
    /// What the model made of them.
    known: Known,
}

impl Material<'_> {
    /// Lets an instrument look at as much of the text as it reads.
    ///
    /// # Errors
    /// If the excerpt is no text, or as `look`.
    pub(super) fn reading<T>(
        &mut self,
        reads: Reads,
        look: impl FnOnce(&mut Self) -> Result<T, AnalysisError>,
    ) -> Result<T, AnalysisError> {
        let Some(most) = reads.tokens(self.excerpt_tokens) else { return look(self) };
        let sequences = of_text(&self.batches);
        let tokens: usize = sequences.iter().map(|(batch, _)| self.batches[*batch].0.positions()).sum();
        if tokens <= most || sequences.len() <= SEQUENCES {
            return look(self);
        }
        let mut excerpt = match self.excerpts.iter().position(|drawn| drawn.most == most) {
            Some(place) => self.excerpts.swap_remove(place),
            None => Excerpt::drawn(&self.batches, sequences, most, self.seed)?,
        };
        self.exchange(&mut excerpt);
        let found = look(self);
        self.exchange(&mut excerpt);
        self.excerpts.push(excerpt);
        found
    }

    /// Puts an excerpt in the place of the text, or the text in the place of an excerpt.
    fn exchange(&mut self, excerpt: &mut Excerpt) {
        std::mem::swap(&mut self.batches, &mut excerpt.batches);
        std::mem::swap(&mut self.known, &mut excerpt.known);
    }
}

/// Batch and number within it of every sequence.
fn of_text(batches: &[(Tokens, TokenTable)]) -> Vec<(usize, usize)> {
    let of = |(batch, (tokens, _)): (usize, &(Tokens, TokenTable))| {
        (0..tokens.batch()).map(move |sequence| (batch, sequence))
    };
    batches.iter().enumerate().flat_map(of).collect()
}

impl Excerpt {
    /// A shorter excerpt is part of a longer one with the same seed.
    fn drawn(
        batches: &[(Tokens, TokenTable)],
        mut sequences: Vec<(usize, usize)>,
        most: usize,
        seed: Seed,
    ) -> Result<Excerpt, AnalysisError> {
        sequences.shuffle(&mut seed.child("excerpt").rng());
        let mut tokens = 0;
        let fitting = sequences.iter().enumerate().take_while(|(place, (batch, _))| {
            tokens += batches[*batch].0.positions();
            tokens <= most || *place < SEQUENCES
        });
        let fitting = fitting.count();
        sequences.truncate(fitting);
        sequences.sort_unstable();
        let together = batches.iter().map(|(tokens, _)| tokens.batch()).max().unwrap_or(1);
        let length = |(batch, _): &(usize, usize)| batches[*batch].0.positions();
        let alike = sequences.chunk_by(|a, b| length(a) == length(b));
        let batches = alike.flat_map(|alike| alike.chunks(together)).map(|some| one_batch(batches, some));
        Ok(Excerpt { most, batches: batches.collect::<Result<_, _>>()?, known: Known::default() })
    }
}

/// Sequences of one length as a batch.
fn one_batch(
    batches: &[(Tokens, TokenTable)],
    sequences: &[(usize, usize)],
) -> Result<(Tokens, TokenTable), AnalysisError> {
    let positions = batches[sequences[0].0].0.positions();
    let table = |(batch, sequence): &(usize, usize)| {
        let tokens: Vec<usize> = (sequence * positions..(sequence + 1) * positions).collect();
        batches[*batch].1.select(&tokens)
    };
    let mut all = table(&sequences[0]);
    sequences[1..].iter().try_for_each(|one| all.extend(table(one)))?;
    Ok((Tokens::new(all.ids.clone(), sequences.len(), positions)?, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instrument::{CASE, named};
    use crate::planted_model;
    use crate::routing::planted;
    use moescope_model::ModelSubject;

    const LENGTH: usize = 16;

    /// Batches of four sequences of 16 tokens, a document each.
    fn text(batches: usize) -> Vec<(Tokens, TokenTable)> {
        let batch = |number: usize| {
            let mut table =
                planted::text(4, LENGTH, planted_model::VOCAB as u32, &mut Seed(number as u64).rng());
            table.documents.iter_mut().for_each(|document| *document += 4 * number as u32);
            (Tokens::new(table.ids.clone(), 4, LENGTH).unwrap(), table)
        };
        (0..batches).map(batch).collect()
    }

    fn with_material<T>(batches: usize, seed: u64, look: impl FnOnce(&mut Material<'_>) -> T) -> T {
        let mut subject = ModelSubject::new(planted_model::model(1, 1, |_, _| {}));
        look(&mut Material::new(&mut subject, text(batches), Seed(seed)).unwrap())
    }

    fn documents(material: &Material<'_>) -> Vec<u32> {
        material
            .batches
            .iter()
            .flat_map(|(_, table)| table.documents.iter().step_by(LENGTH))
            .copied()
            .collect()
    }

    fn excerpt(batches: usize, seed: u64, most: usize) -> Vec<u32> {
        let look = |material: &mut Material<'_>| {
            material.excerpt_tokens = most;
            material.reading(Reads::Excerpt, |material| Ok(documents(material))).unwrap()
        };
        with_material(batches, seed, look)
    }

    #[test]
    fn a_short_text_is_read_whole_and_a_long_one_in_part_and_in_order() {
        let all: Vec<u32> = (0..120).collect();
        assert_eq!(excerpt(30, 1, 120 * LENGTH), all);
        assert_eq!(excerpt(16, 1, LENGTH), all[..64], "never fewer than 64 sequences");
        assert_eq!(
            excerpt(30, 1, LENGTH).len() * LENGTH,
            Reads::Excerpt.at_most(LENGTH, 120 * LENGTH, LENGTH)
        );
        assert_eq!((Reads::Whole.at_most(9, 99, 3), Reads::Excerpt.at_most(640, 99, 3)), (99, 99));
        assert_eq!(
            (Reads::ShortExcerpt.at_most(2_001, 999, 3), Reads::ShortExcerpt.tokens(1)),
            (501, Some(1))
        );
        let some = excerpt(30, 1, 80 * LENGTH + 3);
        assert_eq!(some.len(), 80);
        assert!(some.is_sorted() && some.iter().all(|document| *document < 120));
        assert_ne!(some, excerpt(30, 2, 80 * LENGTH));
        let fewer = excerpt(30, 1, 70 * LENGTH);
        assert!(fewer.len() == 70 && fewer.iter().all(|document| some.contains(document)));
    }

    #[test]
    fn every_sequence_has_the_same_chance_whatever_document_it_is_of() {
        let mut drawn = [0; 120];
        (0..300)
            .for_each(|seed| excerpt(30, seed, 80 * LENGTH).iter().for_each(|one| drawn[*one as usize] += 1));
        // 200 of 300 on average, with a standard deviation of 8.
        assert!(drawn.iter().all(|times| (165..235).contains(times)), "{drawn:?}");
    }

    #[test]
    fn batches_of_an_excerpt_are_as_large_and_its_tables_belong_to_them() {
        with_material(30, 1, |material| {
            let whole = material.routes().unwrap().clone();
            material.excerpt_tokens = 80 * LENGTH;
            let reads = Reads::Excerpt;
            let routes = material
                .reading(reads, |material| {
                    assert!(material.batches.iter().all(|(tokens, table)| tokens.ids() == table.ids));
                    assert_eq!(material.batches.len(), 20);
                    material.routes().cloned()
                })
                .unwrap();
            assert_eq!((material.batches.len(), material.routes().unwrap()), (30, &whole));
            // A token takes the route that it takes in the whole text.
            let kept: Vec<usize> = (0..whole.tokens().len())
                .filter(|token| routes.tokens().documents.contains(&whole.tokens().documents[*token]))
                .collect();
            assert_eq!(routes.tokens(), &whole.tokens().select(&kept));
            let chosen: Vec<u32> =
                kept.iter().flat_map(|token| whole.layers()[0].chosen(*token)).copied().collect();
            assert_eq!(routes.layers()[0].choices, chosen);
            let short = material.reading(Reads::ShortExcerpt, |material| material.routes().cloned()).unwrap();
            assert_eq!(short.tokens().len(), 64 * LENGTH);
            // What was recorded of the longer excerpt is not forgotten for the shorter.
            let again = material.reading(reads, |material| {
                assert!(material.known.routes.is_some());
                material.routes().cloned()
            });
            assert_eq!(again.unwrap(), routes);
        });
    }

    #[test]
    fn what_an_instrument_does_wrong_leaves_the_text_whole() {
        with_material(30, 1, |material| {
            material.excerpt_tokens = 1;
            let failed = material.reading(Reads::Excerpt, |_| -> Result<(), AnalysisError> {
                Err(crate::check::at_least("a test", "tokens", 0, 1).unwrap_err())
            });
            assert!(failed.is_err());
            assert_eq!(material.batches.len(), 30);
        });
    }

    #[test]
    fn those_that_count_routes_read_everything() {
        let reads = |name: &str| named(name).unwrap().reads();
        assert!(["routing", "paths", "saturation"].iter().all(|name| reads(name) == Reads::Whole));
        assert_eq!(reads("expert-importance"), Reads::ShortExcerpt);
        let whole = CASE.iter().filter(|instrument| instrument.reads() == Reads::Whole);
        assert!(whole.clone().count() > 5 && whole.clone().all(|instrument| instrument.about().routed));
    }
}
