//! What route edits make of a router's rule.

use moescope_base::RouteEdit;

use crate::ModelError;
use crate::description::{Description, Routed};
use crate::router::Selection;

/// Refuses a layer that has no routes.
pub(crate) fn check_layer(description: &Description, layer: usize) -> Result<(), ModelError> {
    let found = match description.feed_forward.get(layer) {
        Some(shape) if shape.routed().is_some() => return Ok(()),
        Some(_) => "it is dense".to_owned(),
        None => format!("the model has layers 0 to {}", description.layers() - 1),
    };
    Err(ModelError::edit(place(layer), format!("a route edit wants a routed layer, and {found}")))
}

/// The rule of a layer under these edits, checked: with it, every token can choose.
///
/// Bans and forces of several edits add up; sets of several edits intersect. Recorded routes stand alone.
pub(crate) fn selection(
    layer: usize,
    routed: &Routed,
    edits: &[&RouteEdit],
    tokens: usize,
) -> Result<Selection, ModelError> {
    let mut selection = Selection::of(routed);
    let mut rule = Rule { layer, routed, banned: Vec::new(), forced: Vec::new(), allowed: None };
    for edit in edits {
        match edit {
            RouteEdit::Ban { experts } => rule.note_experts(experts, |rule| &mut rule.banned)?,
            RouteEdit::Force { experts } => rule.note_experts(experts, |rule| &mut rule.forced)?,
            RouteEdit::AllowSets { sets } => rule.allow(sets)?,
            RouteEdit::Replay { choices } if edits.len() == 1 => return rule.replay(choices, tokens),
            RouteEdit::Replay { .. } => {
                return Err(rule.refuse("recorded routes leave no choice to other route edits of the layer"));
            }
        }
    }
    if let Some(sets) = rule.allowed.take() {
        selection = rule.only(sets, &selection);
    }
    rule.narrow(selection)
}

/// What the edits of a layer have asked for.
///
/// Expert lists are ascending, each expert once. `allowed` is `None` while no edit restricts the sets.
struct Rule<'a> {
    layer: usize,
    routed: &'a Routed,
    banned: Vec<u32>,
    forced: Vec<u32>,
    allowed: Option<Vec<Vec<u32>>>,
}

impl Rule<'_> {
    /// The error at this layer.
    fn refuse(&self, reason: impl Into<String>) -> ModelError {
        ModelError::edit(place(self.layer), reason)
    }

    /// Refuses a name beyond the layer's experts.
    fn check_experts(&self, experts: &[u32]) -> Result<(), ModelError> {
        match experts.iter().find(|e| **e as usize >= self.routed.experts) {
            Some(e) => {
                Err(self.refuse(format!("expert {e} was named, and there are {}", self.routed.experts)))
            }
            None => Ok(()),
        }
    }

    /// Adds checked experts to one of the lists.
    fn note_experts(
        &mut self,
        experts: &[u32],
        list: fn(&mut Self) -> &mut Vec<u32>,
    ) -> Result<(), ModelError> {
        self.check_experts(experts)?;
        let list = list(self);
        list.extend(experts);
        list.sort_unstable();
        list.dedup();
        Ok(())
    }

    /// Restricts the choice to these sets, and to those that earlier edits also allow. Each set must be as large as a
    /// token's choice: a smaller one would leave a slot open.
    fn allow(&mut self, sets: &[Vec<u32>]) -> Result<(), ModelError> {
        let wanted = self.routed.per_token;
        let mut sorted = Vec::with_capacity(sets.len());
        for set in sets {
            self.check_experts(set)?;
            let mut set = set.clone();
            set.sort_unstable();
            set.dedup();
            if set.len() != wanted {
                let found = set.len();
                let reason =
                    format!("a set names {found} distinct experts, wanted {wanted}, as a token chooses");
                return Err(self.refuse(reason));
            }
            sorted.push(set);
        }
        if let Some(earlier) = &self.allowed {
            sorted.retain(|set| earlier.contains(set));
        }
        self.allowed = Some(sorted);
        Ok(())
    }

    /// The given sets, as far as the router itself could choose them.
    fn only(&self, mut sets: Vec<Vec<u32>>, own: &Selection) -> Selection {
        if let Selection::Sets { sets: own, .. } = own {
            sets.retain(|set| own.contains(set));
        }
        Selection::Sets { per_token: self.routed.per_token, sets }
    }

    /// Applies bans and forces.
    fn narrow(&self, selection: Selection) -> Result<Selection, ModelError> {
        let per_token = self.routed.per_token;
        match selection {
            Selection::Sets { mut sets, .. } => {
                let fits = |set: &Vec<u32>| {
                    self.forced.iter().all(|e| set.contains(e))
                        && !self.banned.iter().any(|e| set.contains(e))
                };
                sets.retain(fits);
                if sets.is_empty() {
                    return Err(self.refuse("no set of experts that the router can choose is left"));
                }
                Ok(Selection::Sets { per_token, sets })
            }
            _ => self.best(),
        }
    }

    /// The best experts without the banned and with the forced; refused when too few are left or too many forced.
    fn best(&self) -> Result<Selection, ModelError> {
        let (experts, per_token) = (self.routed.experts, self.routed.per_token);
        if let Some(both) = self.forced.iter().find(|e| self.banned.contains(e)) {
            return Err(self.refuse(format!("expert {both} is banned and forced at once")));
        }
        if self.forced.len() > per_token {
            let found = self.forced.len();
            return Err(self.refuse(format!("{found} experts are forced, and a token chooses {per_token}")));
        }
        let left = experts - self.banned.len();
        if left < per_token {
            return Err(
                self.refuse(format!("the bans leave {left} experts, and a token chooses {per_token}"))
            );
        }
        let mut banned = vec![false; experts];
        self.banned.iter().for_each(|e| banned[*e as usize] = true);
        Ok(Selection::Best { per_token, banned, forced: self.forced.clone() })
    }

    /// Recorded `choices[token, slot]` as the rule. The weights still come from the scores of this pass.
    fn replay(&self, choices: &[u32], tokens: usize) -> Result<Selection, ModelError> {
        let per_token = self.routed.per_token;
        if choices.len() != tokens * per_token {
            let found = choices.len();
            let reason =
                format!("{found} recorded choices, wanted {per_token} for each of the {tokens} tokens");
            return Err(self.refuse(reason));
        }
        self.check_experts(choices)?;
        let repeats = |chosen: &[u32]| chosen.iter().enumerate().any(|(i, e)| chosen[..i].contains(e));
        match choices.chunks_exact(per_token).position(repeats) {
            Some(token) => {
                Err(self.refuse(format!("the recorded choices of token {token} name an expert twice")))
            }
            None => Ok(Selection::Given { per_token, choices: choices.to_vec() }),
        }
    }
}

/// How messages name the place of a route edit.
fn place(layer: usize) -> String {
    format!("the routes of layer {layer}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{Router, RouterKind};

    fn routed() -> Routed {
        Routed { experts: 4, expert_width: 1, per_token: 2, router: Router::learned(false), shared: None }
    }

    fn choose(edits: &[RouteEdit], scores: &[f32]) -> Result<Vec<u32>, String> {
        let edits: Vec<&RouteEdit> = edits.iter().collect();
        let rule = selection(0, &routed(), &edits, 1).map_err(|e| e.to_string())?;
        Ok(rule.choose(scores, scores, 4))
    }

    #[test]
    fn edits_change_the_choice_as_documented() {
        let scores = [0.4, 0.3, 0.2, 0.1];
        let ban = |e: u32| RouteEdit::Ban { experts: vec![e] };
        let force = |e: u32| RouteEdit::Force { experts: vec![e] };
        assert_eq!(choose(&[], &scores).unwrap(), [0, 1]);
        assert_eq!(choose(&[ban(0)], &scores).unwrap(), [1, 2]);
        assert_eq!(choose(&[ban(0), ban(1)], &scores).unwrap(), [2, 3]);
        assert_eq!(choose(&[force(3)], &scores).unwrap(), [0, 3]);
        assert_eq!(choose(&[force(3), ban(0)], &scores).unwrap(), [1, 3]);
        let sets = RouteEdit::AllowSets { sets: vec![vec![3, 2], vec![1, 3]] };
        assert_eq!(choose(std::slice::from_ref(&sets), &scores).unwrap(), [1, 3]);
        assert_eq!(choose(&[sets, ban(1)], &scores).unwrap(), [2, 3]);
        assert_eq!(choose(&[RouteEdit::Replay { choices: vec![2, 0] }], &scores).unwrap(), [0, 2]);
    }

    #[test]
    fn what_cannot_take_effect_is_refused_with_the_reason() {
        let scores = [0.4, 0.3, 0.2, 0.1];
        let refused = |edits: &[RouteEdit], reason: &str| {
            let error = choose(edits, &scores).unwrap_err();
            assert!(error.contains(reason), "{error}");
        };
        refused(&[RouteEdit::Ban { experts: vec![4] }], "there are 4");
        refused(&[RouteEdit::Ban { experts: vec![0, 1, 2] }], "leave 1");
        refused(&[RouteEdit::Force { experts: vec![0, 1, 2] }], "3 experts are forced");
        let both = [RouteEdit::Force { experts: vec![1] }, RouteEdit::Ban { experts: vec![1] }];
        refused(&both, "banned and forced");
        refused(&[RouteEdit::AllowSets { sets: vec![vec![1]] }], "1 distinct");
        refused(&[RouteEdit::AllowSets { sets: vec![] }], "no set");
        refused(&[RouteEdit::Replay { choices: vec![1, 1] }], "twice");
        refused(&[RouteEdit::Replay { choices: vec![1] }], "1 recorded choices");
        let replay = RouteEdit::Replay { choices: vec![1, 2] };
        refused(&[replay, RouteEdit::Ban { experts: vec![0] }], "leave no choice");
    }

    #[test]
    fn a_committee_stays_one_under_edits() {
        let router = Router { kind: RouterKind::Committee { members: 2 }, ..Router::learned(false) };
        let routed = Routed { router, ..routed() };
        let scores = [0.4, 0.3, 0.2, 0.1];
        let ban = RouteEdit::Ban { experts: vec![0] };
        let rule = selection(0, &routed, &[&ban], 1).unwrap();
        assert_eq!(rule.choose(&scores, &scores, 4), [2, 3]);
        let mixed = RouteEdit::AllowSets { sets: vec![vec![0, 2]] };
        assert!(selection(0, &routed, &[&mixed], 1).is_err());
    }
}
