//! What the tensors of a family are called, and which part of a tensor of the files each of ours is.

use crate::description::Description;

/// Names of a family's tensors, where they are not ours.
///
/// Ours are those of Qwen3-MoE, with names of our own for what that family has not.
pub(crate) struct Names {
    /// What stands before the names of the base model, and may be left out.
    pub(crate) base: &'static str,
    /// What stands before the number of a block.
    pub(crate) blocks: &'static str,
    /// Tensors outside the blocks: our name, theirs.
    pub(crate) tables: &'static [(&'static str, &'static str)],
    /// Tensors of a block. A name of ours may stand here several times: the first that the files hold is taken, and our own name
    /// after all of these.
    pub(crate) leaves: &'static [Leaf],
    /// Endings of tensors that files may hold and that change nothing.
    pub(crate) ignored: &'static [&'static str],
}

/// The names of most families.
pub(crate) const OURS: Names =
    Names { base: "model.", blocks: "model.layers.", tables: &[], leaves: &[], ignored: &[] };

/// One tensor of a block.
pub(crate) struct Leaf {
    pub(crate) ours: &'static str,
    pub(crate) theirs: &'static str,
    pub(crate) cut: Cut,
}

/// Which rows of a tensor of the files are those of ours, and whether its last two axes are exchanged. Leading axes, that of
/// experts, are the same.
///
/// The rows of the files come in groups, each with the same number of rows of ours, between rows of other tensors.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) transposed: bool,
    pub(crate) groups: Groups,
    /// Rows of others before ours in each group, from the number of ours in the group.
    pub(crate) before: Rows,
    /// Rows of others after ours.
    pub(crate) after: Rows,
}

/// A number of rows, from the sizes of the model and the number of rows of ours in a group.
pub(crate) type Rows = fn(&Description, usize) -> usize;

/// How many groups there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups {
    /// One.
    One,
    /// One for each query head.
    Heads,
    /// One for each row of ours.
    Rows,
}

/// No row.
pub(crate) const NONE: Rows = |_, _| 0;
/// As many as ours.
pub(crate) const OWN: Rows = |_, own| own;
/// Twice as many as ours.
pub(crate) const TWICE: Rows = |_, own| 2 * own;

impl Cut {
    /// All rows.
    pub(crate) const WHOLE: Cut = Cut::rows(Groups::One, NONE, NONE);
    /// All rows, which stand as columns in the files.
    pub(crate) const TRANSPOSED: Cut = Cut { transposed: true, ..Cut::WHOLE };
    /// The first of two halves.
    pub(crate) const FIRST: Cut = Cut::rows(Groups::One, NONE, OWN);
    /// The second of two halves.
    pub(crate) const SECOND: Cut = Cut::rows(Groups::One, OWN, NONE);

    pub(crate) const fn rows(groups: Groups, before: Rows, after: Rows) -> Cut {
        Cut { transposed: false, groups, before, after }
    }

    /// Whether ours is all of the tensor, as it stands.
    #[cfg(test)]
    pub(crate) fn is_whole(&self, sizes: &Description) -> bool {
        !self.transposed && (self.before)(sizes, 1) + (self.after)(sizes, 1) == 0
    }

    pub(crate) const fn transposed(self) -> Cut {
        Cut { transposed: true, ..self }
    }
}

/// A leaf under another name.
pub(crate) const fn renamed(ours: &'static str, theirs: &'static str) -> Leaf {
    Leaf { ours, theirs, cut: Cut::WHOLE }
}

/// A leaf that is part of a tensor.
pub(crate) const fn part(ours: &'static str, theirs: &'static str, cut: Cut) -> Leaf {
    Leaf { ours, theirs, cut }
}

impl Names {
    /// Where a tensor of ours may be, the best place first.
    pub(crate) fn candidates(&self, ours: &str) -> Vec<(String, Cut)> {
        let mut found = match ours.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
            Some((layer, leaf)) => self.block_candidates(layer, leaf),
            None => {
                let own = self.tables.iter().filter(|(name, _)| *name == ours);
                own.map(|(_, theirs)| ((*theirs).to_owned(), Cut::WHOLE)).collect()
            }
        };
        found.push((ours.to_owned(), Cut::WHOLE));
        found
    }

    /// The full name of a tensor in files that leave out the base, as those of a base model do.
    pub(crate) fn full(&self, bare: &str) -> String {
        let outside = ["lm_head.", "embed_out."].iter().any(|head| bare.starts_with(head));
        if outside { bare.to_owned() } else { format!("{}{bare}", self.base) }
    }

    /// Whether these names leave out the base.
    pub(crate) fn lack_base<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> bool {
        let bare = self.blocks.strip_prefix(self.base).unwrap_or(self.blocks);
        let mut blocks = false;
        let whole = names.all(|name| {
            blocks |= name.starts_with(bare);
            !name.starts_with(self.base)
        });
        whole && blocks
    }

    fn block_candidates(&self, layer: &str, leaf: &str) -> Vec<(String, Cut)> {
        let own = self.leaves.iter().filter(|known| known.ours == leaf);
        let mut found: Vec<_> =
            own.map(|known| (format!("{}{layer}.{}", self.blocks, known.theirs), known.cut)).collect();
        found.push((format!("{}{layer}.{leaf}", self.blocks), Cut::WHOLE));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_their_names_then_ours_and_the_base_may_be_left_out() {
        const LEAVES: [Leaf; 2] =
            [renamed("mlp.gate.weight", "mlp.router.weight"), renamed("mlp.gate.weight", "moe.gate.weight")];
        let names = Names {
            base: "transformer.",
            blocks: "transformer.h.",
            tables: &[("lm_head.weight", "head.weight")],
            leaves: &LEAVES,
            ignored: &[],
        };
        let found = |ours| names.candidates(ours).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(found("lm_head.weight"), ["head.weight", "lm_head.weight"]);
        let block = found("model.layers.3.mlp.gate.weight");
        assert_eq!(block[..2], ["transformer.h.3.mlp.router.weight", "transformer.h.3.moe.gate.weight"]);
        assert!(names.lack_base(["h.0.ln.weight", "lm_head.weight"].into_iter()));
        assert!(!names.lack_base(["h.0.ln.weight", "transformer.wte.weight"].into_iter()));
        assert!(!names.lack_base(["other.weight"].into_iter()));
        assert_eq!(
            [names.full("h.0.ln.weight"), names.full("lm_head.bias")],
            ["transformer.h.0.ln.weight", "lm_head.bias"]
        );
    }
}
