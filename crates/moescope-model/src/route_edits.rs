//! What route edits make of a router's rule.
//!
//! Edits are read once, before the first operation of the pass, into one rule for each layer. So what cannot take effect is
//! refused before anything is computed, and the router itself knows of no edit: it follows its rule.

use moescope_base::{RouteEdit, TokenSelection};

use crate::ModelError;
use crate::description::{Description, Order, Routed, RouterKind, Score};
use crate::router::Selection;

/// How a layer chooses and weighs in one pass.
#[derive(Clone, Debug)]
pub(crate) struct LayerRule<'a> {
    /// The layer with what the edits have changed of it: experts for each token, renormalisation.
    pub(crate) routed: Routed,
    /// Who may be chosen.
    pub(crate) selection: Selection,
    /// What the logits are divided by.
    pub(crate) temperature: f64,
    /// Seeds of the exchanges of choices between tokens, in order.
    pub(crate) shuffles: Vec<u64>,
    /// Weights that are given, in order.
    pub(crate) weights: Vec<GivenWeight<'a>>,
}

/// A weight that an edit gives to experts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenWeight<'a> {
    /// Whose weight it is, wherever a selected token chooses them.
    pub(crate) experts: &'a [u32],
    /// The weight as applied; finite.
    pub(crate) weight: f32,
    /// Whether the weights of such a token are divided by their sum afterwards.
    pub(crate) renormalise: bool,
    /// On which tokens; those that choose none of the experts are left as they are.
    pub(crate) tokens: &'a TokenSelection,
}

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
/// How many are chosen counts first, wherever it stands. Bans and forces of several edits add up; sets of several edits intersect;
/// temperatures multiply. Recorded routes stand alone.
pub(crate) fn rule<'a>(
    layer: usize,
    routed: &Routed,
    edits: &[&'a RouteEdit],
    tokens: usize,
) -> Result<LayerRule<'a>, ModelError> {
    let routed = changed(layer, routed, edits)?;
    let selection = selection(layer, &routed, edits, tokens)?;
    let mut rule =
        LayerRule { routed, selection, temperature: 1.0, shuffles: Vec::new(), weights: Vec::new() };
    for edit in edits {
        match edit {
            RouteEdit::Temperature { temperature } => rule.temperature *= f64::from(*temperature),
            RouteEdit::Shuffle { seed } => rule.shuffles.push(*seed),
            RouteEdit::SetWeight { experts, weight, renormalise, tokens: selection } => {
                check_weight(layer, &rule.routed, experts, *weight, selection, tokens)?;
                let given =
                    GivenWeight { experts, weight: *weight, renormalise: *renormalise, tokens: selection };
                rule.weights.push(given);
            }
            _ => {}
        }
    }
    Ok(rule)
}

/// The layer with another number of experts for each token, or another word on renormalisation.
fn changed(layer: usize, routed: &Routed, edits: &[&RouteEdit]) -> Result<Routed, ModelError> {
    let mut changed = routed.clone();
    let refuse = |reason: String| Err(ModelError::edit(place(layer), reason));
    let (mut count, mut renormalise) = (None, None);
    for edit in edits {
        match edit {
            RouteEdit::TopK { k } if count.is_some_and(|other| other != *k) => {
                return refuse("two edits ask for different numbers of experts; keep one".into());
            }
            RouteEdit::TopK { k } => {
                check_count(layer, routed, *k as usize)?;
                (count, changed.per_token) = (Some(*k), *k as usize);
            }
            RouteEdit::Renormalise { renormalise: now } if renormalise.is_some_and(|other| other != *now) => {
                return refuse(
                    "one edit wants the weights renormalised and another does not; keep one".into(),
                );
            }
            RouteEdit::Renormalise { renormalise: now } => {
                check_renormalise(layer, routed, *now)?;
                (renormalise, changed.router.renormalise) = (Some(*now), *now);
            }
            RouteEdit::Temperature { temperature } => check_temperature(layer, routed, *temperature)?,
            RouteEdit::Swap { .. } => {
                return refuse(
                    "a swap needs the routes of both layers, which are known after a pass; run it through `ModelSubject`".into(),
                );
            }
            _ => {}
        }
    }
    Ok(changed)
}

/// Refuses a number of experts that tokens of this layer cannot choose.
fn check_count(layer: usize, routed: &Routed, k: usize) -> Result<(), ModelError> {
    let open = routed.router.groups.map_or(routed.experts, |g| g.chosen * (routed.experts / g.count));
    let reason = match routed.router.kind {
        RouterKind::Committee { .. } => "the experts of a committee are chosen together".into(),
        _ if routed.router.order == Order::OneByOne && k != 2 => {
            format!("this router weighs a first and a second expert, and {k} were asked for")
        }
        _ if k == 0 || k > open => format!("{k} experts for each token were asked for, wanted 1 to {open}"),
        _ => return Ok(()),
    };
    Err(ModelError::edit(place(layer), reason))
}

/// Refuses a word on renormalisation that this router's weights cannot follow.
fn check_renormalise(layer: usize, routed: &Routed, renormalise: bool) -> Result<(), ModelError> {
    let router = &routed.router;
    let reason = match renormalise {
        true => return Ok(()),
        false if !router.kind.scores() => "the weights of a router that does not score are equal shares",
        false if router.order == Order::SelectThenScore && router.score == Score::Softmax => {
            "this router's weights are a softmax over the chosen experts, whose sum is one by itself"
        }
        false => return Ok(()),
    };
    Err(ModelError::edit(place(layer), reason))
}

/// Refuses a temperature that makes no scores.
fn check_temperature(layer: usize, routed: &Routed, temperature: f32) -> Result<(), ModelError> {
    if !routed.router.kind.scores() {
        return Err(ModelError::edit(
            place(layer),
            "this layer's router does not score, so it has no temperature",
        ));
    }
    match temperature.is_finite() && temperature > 0.0 {
        true => Ok(()),
        false => {
            let reason = format!("the temperature is {temperature}, wanted a number above 0");
            Err(ModelError::edit(place(layer), reason))
        }
    }
}

/// Refuses a weight that is none, for experts or tokens that do not exist.
fn check_weight(
    layer: usize,
    routed: &Routed,
    experts: &[u32],
    weight: f32,
    selection: &TokenSelection,
    tokens: usize,
) -> Result<(), ModelError> {
    let refuse = |reason: String| Err(ModelError::edit(place(layer), reason));
    if let Some(e) = experts.iter().find(|e| **e as usize >= routed.experts) {
        return refuse(format!("expert {e} was named, and there are {}", routed.experts));
    }
    if !weight.is_finite() {
        return refuse(format!("the weight is {weight}, wanted a finite number"));
    }
    let TokenSelection::Rows(rows) = selection else { return Ok(()) };
    match rows.iter().find(|row| **row as usize >= tokens) {
        Some(row) => {
            refuse(format!("token {row} was selected, and the batch has tokens 0 to {}", tokens - 1))
        }
        None if rows.windows(2).all(|pair| pair[0] < pair[1]) => Ok(()),
        None => refuse("the selected tokens are not ascending; sort them, each once".into()),
    }
}

/// Who may be chosen under these edits.
fn selection(
    layer: usize,
    routed: &Routed,
    edits: &[&RouteEdit],
    tokens: usize,
) -> Result<Selection, ModelError> {
    let mut selection = Selection::of(routed);
    let alone = edits.iter().filter(|edit| edit.chooses()).count() == 1;
    let mut rule = Rule { layer, routed, banned: Vec::new(), forced: Vec::new(), allowed: None };
    for edit in edits {
        match edit {
            RouteEdit::Ban { experts } => rule.note_experts(experts, |rule| &mut rule.banned)?,
            RouteEdit::Force { experts } => rule.note_experts(experts, |rule| &mut rule.forced)?,
            RouteEdit::AllowSets { sets } => rule.allow(sets)?,
            RouteEdit::Replay { choices } if alone => return rule.replay(choices, tokens),
            RouteEdit::Replay { .. } => {
                return Err(rule.refuse("recorded routes leave no choice to other route edits of the layer"));
            }
            _ => {}
        }
    }
    if let Some(sets) = rule.allowed.take() {
        selection = rule.only(sets, &selection);
    }
    rule.narrow(selection)
}

/// Whether experts repeat.
pub(crate) fn repeats(chosen: &[u32]) -> bool {
    chosen.iter().enumerate().any(|(i, e)| chosen[..i].contains(e))
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
        match choices.chunks_exact(per_token).position(repeats) {
            Some(token) => {
                Err(self.refuse(format!("the recorded choices of token {token} name an expert twice")))
            }
            None => Ok(Selection::Given { per_token, choices: choices.to_vec() }),
        }
    }
}

/// How messages name the place of a route edit.
pub(crate) fn place(layer: usize) -> String {
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
        let rule = rule(0, &routed(), &edits, 1).map_err(|e| e.to_string())?;
        Ok(rule.selection.choose(scores, scores, 4))
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
