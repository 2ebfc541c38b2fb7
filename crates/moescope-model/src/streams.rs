//! Streams of earlier passes, so that a pass over the same tokens begins where it differs from the unedited one.
//!
//! Causal analyses run one text again and again, each time with an edit somewhere in the model. What lies before the edit is what it was in every
//! pass before: it is kept and copied, and the pass begins at the edit, with the same bits.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use moescope_base::{Edit, HookPoint, Site, Tokens};
use moescope_engine::Tensor;

/// Bytes of streams that one subject keeps at most.
pub(crate) const ROOM: u64 = 256 << 20;
/// Batches whose last pass is remembered.
const MOST_SEEN: usize = 1 << 16;

/// A place at which a pass can begin, since nothing but the stream crosses it: before a block, before its feed-forward half, before the unembedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stage(usize);

impl Stage {
    /// Before a block; with the number of blocks, before the unembedding.
    pub(crate) fn block(layer: usize) -> Stage {
        Stage(2 * layer)
    }

    /// Between the two halves of a block.
    pub(crate) fn between(layer: usize) -> Stage {
        Stage(2 * layer + 1)
    }

    /// The block that it stands before or within.
    pub(crate) fn layer(self) -> usize {
        self.0 / 2
    }

    /// The last stage before everything that these points and edits ask for or change; none where that is the embedding.
    pub(crate) fn before<'p>(
        points: impl Iterator<Item = &'p HookPoint>,
        edits: &[Edit],
        layers: usize,
    ) -> Option<Stage> {
        let edited = edits.iter().map(|edit| match edit {
            Edit::Value { at, .. } => Stage::of(at, layers),
            Edit::Route { layer, .. } => Some(Stage::between(*layer as usize).min(Stage::block(layers))),
        });
        points.map(|point| Stage::of(point, layers)).chain(edited).min().unwrap_or(Some(Stage::block(layers)))
    }

    /// The last stage before a point; of one that no block has, the last of all: the pass will refuse it.
    fn of(point: &HookPoint, layers: usize) -> Option<Stage> {
        use Site::{
            AttnIn, AttnK, AttnOut, AttnPattern, AttnQ, AttnResult, AttnRouterIndices, AttnRouterLogits,
            AttnRouterWeights, AttnScale, AttnScores, AttnV, AttnZ, Embed, PosEmbed, ResidPre,
        };
        match (point.layer(), point.site()) {
            (_, Embed | PosEmbed) => None,
            (None, _) => Some(Stage::block(layers)),
            (
                Some(layer),
                ResidPre | AttnScale | AttnIn | AttnRouterLogits | AttnRouterIndices | AttnRouterWeights
                | AttnQ | AttnK | AttnV | AttnScores | AttnPattern | AttnZ | AttnResult | AttnOut,
            ) => Some(Stage::block(layer)),
            (Some(layer), _) => Some(Stage::between(layer)),
        }
        .map(|stage: Stage| stage.min(Stage::block(layers)))
    }
}

/// Where one pass begins, and what it leaves for later ones.
#[derive(Debug, Default)]
pub(crate) struct Start {
    /// The stage at which it begins and the stream there, `[token, model]`; none where it begins with the embedding.
    pub(crate) from: Option<(Stage, Tensor)>,
    /// Stages whose streams are wanted, ascending; no edit lies before any of them.
    wanted: Vec<Stage>,
    /// Streams that were met.
    kept: Vec<(Stage, Tensor)>,
}

impl Start {
    /// Copies a stream, if it is wanted.
    pub(crate) fn meet(&mut self, stage: Stage, stream: &Tensor) {
        if self.wanted.binary_search(&stage).is_ok() {
            // The length is that of the shape, as in any tensor; a buffer of its own does not come from the spare ones.
            let copy = Tensor::new(stream.shape().to_vec(), stream.data().to_vec());
            self.kept.extend(copy.map(|copy| (stage, copy)));
        }
    }
}

/// Streams of the unedited model, by batch.
///
/// A batch that is met for the first time leaves nothing, as most batches are met once. Where there is no room for all, those stay that come back
/// soonest: a batch takes the place of others whose last pass is longer ago than its own, so that a text that is larger than the room, and read
/// from end to end again and again, has the use of what does fit.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    known: HashMap<u64, Known>,
    /// The last pass over each batch.
    seen: HashMap<u64, u64>,
    passes: u64,
    bytes: usize,
    /// Bytes that are kept at most.
    room: usize,
}

/// What is known of one batch.
#[derive(Clone, Debug)]
struct Known {
    tokens: Tokens,
    streams: BTreeMap<Stage, Tensor>,
}

impl Known {
    fn bytes(&self) -> usize {
        self.streams.values().map(|stream| size_of_val(stream.data())).sum()
    }
}

impl Streams {
    /// Nothing yet, in so many bytes at most.
    pub(crate) fn within(room: u64) -> Streams {
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        Streams { known: HashMap::new(), seen: HashMap::new(), passes: 0, bytes: 0, room }
    }

    /// Where a pass over these tokens can begin that is asked for nothing before `asked`, and whose streams up to `last` are those of the unedited model.
    ///
    /// `parts` says whether a pass may begin between the halves of a block as well, and `width` is that of the stream.
    pub(crate) fn start(
        &mut self,
        tokens: &Tokens,
        [asked, last]: [Option<Stage>; 2],
        parts: bool,
        width: usize,
    ) -> Start {
        let name = name_of(tokens);
        self.passes += 1;
        if self.seen.len() >= MOST_SEEN {
            self.seen.clear();
        }
        let Some(before) = self.seen.insert(name, self.passes) else { return Start::default() };
        let known = self.known.get(&name).filter(|known| known.tokens == *tokens);
        let found = asked.zip(known).and_then(|(asked, known)| known.streams.range(..=asked).next_back());
        let from = found.map(|(stage, stream)| (*stage, stream.clone()));
        // What enters the first block is hardly more than the embedding, and costs as much room as any other.
        let (first, step) = if parts { (1, 1) } else { (2, 2) };
        let mut wanted: Vec<Stage> =
            (first..last.map_or(0, |last| last.0 + 1)).step_by(step).map(Stage).collect();
        wanted.retain(|stage| known.is_none_or(|known| !known.streams.contains_key(stage)));
        wanted.retain(|stage| from.as_ref().is_none_or(|(from, _)| stage > from));
        let each = (tokens.len() * width * size_of::<f32>()).max(1);
        self.make_room(wanted.len() * each, name, before);
        Start { from, wanted: spread(wanted, (self.room - self.bytes) / each), kept: Vec::new() }
    }

    /// Forgets batches whose last pass came before that of this one, `before`, the longest ago first, until there is room or none is left.
    fn make_room(&mut self, bytes: usize, name: u64, before: u64) {
        while self.bytes + bytes.min(self.room) > self.room {
            let pass_of = |name: &u64| self.seen.get(name).copied().unwrap_or(0);
            let others = self.known.keys().filter(|other| **other != name);
            let Some(oldest) = others.min_by_key(|other| (pass_of(other), **other)).copied() else { return };
            if pass_of(&oldest) >= before {
                return;
            }
            self.bytes -= self.known.remove(&oldest).map_or(0, |known| known.bytes());
        }
    }

    /// Keeps what a pass over these tokens has met.
    pub(crate) fn keep(&mut self, tokens: &Tokens, start: Start) {
        if start.kept.is_empty() {
            return;
        }
        let new = || Known { tokens: tokens.clone(), streams: BTreeMap::new() };
        let known = self.known.entry(name_of(tokens)).or_insert_with(new);
        if known.tokens == *tokens {
            let before = known.bytes();
            known.streams.extend(start.kept);
            self.bytes += known.bytes() - before;
        }
    }

    /// Forgets everything: the model is another one now.
    pub(crate) fn clear(&mut self) {
        *self = Streams::within(self.room as u64);
    }
}

/// So many of the stages at most, as far from each other as they can be, the last among them.
fn spread(mut stages: Vec<Stage>, most: usize) -> Vec<Stage> {
    let count = stages.len();
    if most == 0 {
        return Vec::new();
    }
    let step = count.div_ceil(most).max(1);
    let mut place = 0;
    stages.retain(|_| {
        place += 1;
        (count - place).is_multiple_of(step)
    });
    stages
}

/// A number for a batch; two batches may share it.
fn name_of(tokens: &Tokens) -> u64 {
    let mut hasher = DefaultHasher::new();
    (tokens.batch(), tokens.ids()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::{RouteEdit, TokenSelection, ValueEdit};

    const LAYERS: usize = 3;
    const WIDTH: usize = 2;

    fn batch(id: u32) -> Tokens {
        Tokens::new(vec![id, id + 1], 1, 2).unwrap()
    }

    /// One pass that is edited behind a stage and meets all streams before it; where it began.
    fn pass(streams: &mut Streams, tokens: &Tokens, edited: Stage) -> Option<Stage> {
        let mut start = streams.start(tokens, [Some(edited); 2], true, WIDTH);
        let began = start.from.as_ref().map(|(stage, _)| *stage);
        for stage in (0..=2 * LAYERS).map(Stage) {
            let number = (tokens.ids()[0] * 10 + stage.0 as u32) as f32;
            start.meet(stage, &Tensor::new([2, WIDTH], vec![number; 4]).unwrap());
        }
        streams.keep(tokens, start);
        began
    }

    #[test]
    fn stages_stand_before_what_is_asked_for() {
        let before = |points: &[HookPoint], edits: &[Edit]| Stage::before(points.iter(), edits, LAYERS);
        let last = HookPoint::global(Site::Logits);
        assert_eq!(before(&[], &[]), Some(Stage::block(LAYERS)));
        assert_eq!(before(&[last], &[]), Some(Stage::block(LAYERS)));
        assert_eq!(before(&[last, HookPoint::block(Site::AttnZ, 1)], &[]), Some(Stage::block(1)));
        assert_eq!(before(&[HookPoint::block(Site::ResidMid, 1)], &[]), Some(Stage::between(1)));
        assert_eq!(before(&[HookPoint::expert(Site::ExpertOut, 2, 0)], &[]), Some(Stage::between(2)));
        let ban = Edit::Route { layer: 1, change: RouteEdit::Ban { experts: vec![0] } };
        assert_eq!(before(&[last], std::slice::from_ref(&ban)), Some(Stage::between(1)));
        let (tokens, change) = (TokenSelection::All, ValueEdit::Scale { factor: 0.0 });
        let embed = Edit::Value { at: HookPoint::global(Site::Embed), tokens, change };
        assert_eq!(before(&[last], &[ban, embed]), None);
        let far = Edit::Route { layer: u32::MAX, change: RouteEdit::Ban { experts: vec![0] } };
        assert_eq!(before(&[], std::slice::from_ref(&far)), Some(Stage::block(LAYERS)));
        assert_eq!(before(&[HookPoint::block(Site::AttnZ, 1 << 31)], &[]), Some(Stage::block(LAYERS)));
        let order = [Stage::block(0), Stage::between(0), Stage::block(1), Stage::between(1)];
        assert!(order.is_sorted());
    }

    #[test]
    fn the_third_pass_begins_where_it_is_edited() {
        let mut streams = Streams::within(ROOM);
        let tokens = batch(4);
        assert_eq!(pass(&mut streams, &tokens, Stage::between(1)), None);
        assert_eq!(streams.bytes, 0, "what is met once leaves nothing");
        assert_eq!(pass(&mut streams, &tokens, Stage::between(1)), None);
        assert_eq!(pass(&mut streams, &tokens, Stage::block(1)), Some(Stage::block(1)));
        assert_eq!(
            pass(&mut streams, &tokens, Stage::block(2)),
            Some(Stage::between(1)),
            "the latest that is known"
        );
        assert_eq!(
            pass(&mut streams, &tokens, Stage::block(2)),
            Some(Stage::block(2)),
            "and now this one is"
        );
        assert_eq!(pass(&mut streams, &batch(5), Stage::block(2)), None, "other tokens");
        let start = streams.start(&tokens, [Some(Stage::block(1)); 2], true, WIDTH);
        assert_eq!(start.from.unwrap().1.data(), [42.0; 4]);
        let begins = |streams: &mut Streams, asked| {
            streams.start(&tokens, [asked, Some(Stage::block(3))], true, WIDTH)
        };
        assert!(begins(&mut streams, None).from.is_none(), "the embedding is asked for");
        streams.clear();
        assert_eq!((pass(&mut streams, &tokens, Stage::block(1)), streams.bytes), (None, 0));
    }

    #[test]
    fn a_block_of_parallel_halves_is_one_piece() {
        let mut streams = Streams::within(ROOM);
        let wanted =
            |streams: &mut Streams| streams.start(&batch(1), [Some(Stage::block(3)); 2], false, WIDTH).wanted;
        assert_eq!(wanted(&mut streams), []);
        assert_eq!(wanted(&mut streams), (1..=LAYERS).map(Stage::block).collect::<Vec<_>>());
    }

    /// Room for two of three batches that are read in a circle: two stay, and serve; a batch that is read again and again takes their place.
    #[test]
    fn what_comes_back_soonest_stays() {
        let stages = 2 * LAYERS;
        let mut streams = Streams::within((2 * stages * 4 * WIDTH * 2 + 8) as u64);
        let end = Stage::block(LAYERS);
        let circle =
            |streams: &mut Streams| (0..3).filter(|id| pass(streams, &batch(*id), end) == Some(end)).count();
        let served: Vec<usize> = (0..5).map(|_| circle(&mut streams)).collect();
        assert_eq!(served, [0, 0, 2, 2, 2]);
        let alone: Vec<bool> = (0..4).map(|_| pass(&mut streams, &batch(9), end) == Some(end)).collect();
        assert_eq!(alone, [false, false, true, true]);
        assert!(streams.bytes <= streams.room && streams.known.len() == 2);
        let total: usize = streams.known.values().map(Known::bytes).sum();
        assert_eq!(streams.bytes, total);
    }

    #[test]
    fn where_few_stages_fit_they_are_spread_over_the_depth() {
        let of =
            |most| spread((1..=8).map(Stage).collect(), most).iter().map(|stage| stage.0).collect::<Vec<_>>();
        assert_eq!([of(0), of(1), of(3)], [vec![], vec![8], vec![2, 5, 8]]);
        [of(8), of(99)].iter().for_each(|found| assert_eq!(*found, [1, 2, 3, 4, 5, 6, 7, 8]));
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let mut streams = Streams::within(10);
        (0..3).for_each(|_| assert_eq!(pass(&mut streams, &batch(1), Stage::block(3)), None));
        assert_eq!((streams.bytes, streams.known.len()), (0, 0));
    }
}
