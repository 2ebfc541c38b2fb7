//! Pictures of what activations carry.

use moescope_base::{Figure, FigureKind};

use super::{Carried, Direction, titles};

/// Parts of each block, for the prediction after the exchanged token.
pub(super) fn next(rows: &[&Carried], routes: Option<&Carried>) -> Figure {
    let things = ("layer or expert", "layers and experts");
    let title = titles::most(rows, "the next prediction", things, titles::of_block);
    Figure {
        id: "activation_patch".into(),
        title: titles::and_routes(&title, routes),
        caption: "Share of the next prediction's change that one part of the clean text brings back into the text with one token exchanged, with 95 % intervals over \
                  documents; what the opposite direction takes away is in the table."
            .into(),
        table: "activation_patch".into(),
        kind: FigureKind::Lines {
            x: "layer".into(),
            y: "denoised".into(),
            series: Some("part".into()),
            log2_x: false,
        },
    }
}

/// The stream by block and token, for a later prediction, in one direction.
pub(super) fn stream(rows: &[&Carried], direction: Direction) -> Figure {
    let (id, value, way) = match direction {
        Direction::Denoise => (
            "activation_patch_stream",
            "denoised",
            "comes back when the stream of the clean text stands at one token of the text with one token exchanged",
        ),
        Direction::Noise => (
            "activation_patch_stream_noised",
            "noised",
            "is lost when the stream of the text with one token exchanged stands at one token of the clean one",
        ),
    };
    Figure {
        id: id.into(),
        title: titles::stream(rows, direction),
        caption: format!(
            "Share of a later prediction's change that {way}: the exchanged token, the two after it, and the reader, after which the prediction is \
             read. Diverging at 0, where nothing moves; intervals and nulls are in the table."
        ),
        table: "activation_patch_stream".into(),
        kind: heat(("layer", "place"), value),
    }
}

/// Attention, feed-forward layers and first experts by block and token, for a later prediction.
pub(super) fn parts(rows: &[&Carried]) -> Figure {
    let things = ("part of a block, by token,", "parts of blocks, by token,");
    Figure {
        id: "activation_patch_parts".into(),
        title: titles::most(rows, "a later prediction", things, titles::of_block_at),
        caption:
            "Share of a later prediction's change that one part of the clean text brings back at one token, diverging at 0, where nothing does; \
             intervals and nulls are in the table."
                .into(),
        table: "activation_patch_parts".into(),
        kind: heat(("layer", "what"), "denoised"),
    }
}

/// What each part brings back against what it takes away.
pub(super) fn directions(rows: &[&Carried]) -> Figure {
    Figure {
        id: "activation_patch_directions".into(),
        title: titles::apart(rows),
        caption: "Each point is a part of a block at a token: the share of a later prediction that the clean one brings back alone, and the share that is lost with the \
                  corrupted one in its place. Above the line more is needed of it than it gives alone; below, others give the same."
            .into(),
        table: "activation_patch_parts".into(),
        kind: FigureKind::Scatter {
            x: "denoised".into(),
            y: "noised".into(),
            series: Some("part".into()),
            diagonal: true,
        },
    }
}

/// Heads of each block at the reader of a later prediction.
pub(super) fn heads(rows: &[&Carried]) -> Figure {
    Figure {
        id: "activation_patch_heads".into(),
        title: titles::most(rows, "a later prediction", ("head", "heads"), titles::of_block),
        caption: "Share of a later prediction's change that one head of the clean text brings back where the prediction is read, diverging at 0, where none does; \
                  intervals and nulls are in the table."
            .into(),
        table: "activation_patch_heads".into(),
        kind: heat(("head", "layer"), "denoised"),
    }
}

/// Experts by number, where the clean text has chosen them at the exchanged token.
pub(super) fn experts(rows: &[&Carried]) -> Figure {
    Figure {
        id: "activation_patch_experts".into(),
        title: titles::most(rows, "the next prediction", ("expert", "experts"), titles::of_block),
        caption: "Share of the next prediction's change that one expert of the clean text brings back, of the cases in which that text has it among its first two, \
                  diverging at 0; experts that fewer than four documents have are empty."
            .into(),
        table: "activation_patch_experts".into(),
        kind: heat(("expert", "layer"), "denoised"),
    }
}

fn heat((x, y): (&str, &str), value: &str) -> FigureKind {
    FigureKind::Heatmap { x: x.into(), y: y.into(), value: value.into(), center: Some(0.0) }
}
