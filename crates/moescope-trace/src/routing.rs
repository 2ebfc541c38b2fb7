use serde::{Deserialize, Serialize};

use crate::TraceError;

/// The routes of a corpus through every routed layer of a model, with what is known about each token.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingTrace {
    tokens: TokenTable,
    layers: Vec<LayerRouting>,
}

/// The routes of all tokens through one layer. Tokens are in the order of the [`TokenTable`].
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRouting {
    /// Block.
    pub layer: usize,
    /// Number of experts.
    pub experts: usize,
    /// Experts that each token chose.
    pub per_token: usize,
    /// Chosen experts, the largest weight first: `choices[token, slot]`.
    pub choices: Vec<u32>,
    /// Weights as applied: `weights[token, slot]`.
    pub weights: Vec<f32>,
    /// Entropy of the scores normalised to sum 1, in nats, from 0 to ln(experts); NaN when the router does not score:
    /// `entropy[token]`.
    pub entropy: Vec<f32>,
    /// Distance between the last chosen and the best refused expert, in units of the selection scores; NaN when every
    /// expert is chosen or the router does not score: `margin[token]`.
    pub margin: Vec<f32>,
    /// Relative error of the logits that would be enough to change the choice: see
    /// [`relative_margins`](crate::relative_margins); NaN also where an older trace does not hold it: `relative_margin[token]`.
    pub relative_margin: Vec<f32>,
}

/// What is known about each token. All columns have one entry per token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenTable {
    /// Token id.
    pub ids: Vec<u32>,
    /// Id of the token that follows.
    pub next_ids: Vec<u32>,
    /// Index into `domain_names`.
    pub domains: Vec<u16>,
    /// Document; documents are the independent units, tokens are not.
    pub documents: Vec<u32>,
    /// Position in the window.
    pub positions: Vec<u32>,
    /// Index into `class_names`.
    pub classes: Vec<u16>,
    /// Names of the domains.
    pub domain_names: Vec<String>,
    /// Names of the token classes.
    pub class_names: Vec<String>,
}

impl RoutingTrace {
    /// A trace, checked: later code may rely on every length and index.
    ///
    /// # Errors
    /// If a column or layer has the wrong length, or an index is out of range or repeated within a token.
    pub fn new(tokens: TokenTable, layers: Vec<LayerRouting>) -> Result<RoutingTrace, TraceError> {
        tokens.check()?;
        for layer in &layers {
            layer.check(tokens.len())?;
        }
        Ok(RoutingTrace { tokens, layers })
    }

    /// What is known about each token.
    pub fn tokens(&self) -> &TokenTable {
        &self.tokens
    }

    /// Routed layers, in order.
    pub fn layers(&self) -> &[LayerRouting] {
        &self.layers
    }

    /// Tokens and layers, to be put together anew.
    pub(crate) fn into_parts(self) -> (TokenTable, Vec<LayerRouting>) {
        (self.tokens, self.layers)
    }

    /// The same without its first tokens.
    pub(crate) fn without_first(self, count: usize) -> Result<RoutingTrace, TraceError> {
        let (mut tokens, mut layers) = self.into_parts();
        tokens.ids.drain(..count);
        tokens.next_ids.drain(..count);
        tokens.domains.drain(..count);
        tokens.documents.drain(..count);
        tokens.positions.drain(..count);
        tokens.classes.drain(..count);
        for layer in &mut layers {
            layer.choices.drain(..count * layer.per_token);
            layer.weights.drain(..count * layer.per_token);
            layer.entropy.drain(..count);
            layer.margin.drain(..count);
            layer.relative_margin.drain(..count);
        }
        RoutingTrace::new(tokens, layers)
    }
}

impl LayerRouting {
    /// Experts of one token, the largest weight first.
    pub fn chosen(&self, token: usize) -> &[u32] {
        &self.choices[token * self.per_token..(token + 1) * self.per_token]
    }

    fn check(&self, tokens: usize) -> Result<(), TraceError> {
        let name = |column: &str| format!("layer {} column `{column}`", self.layer);
        let slots = tokens * self.per_token;
        check_length(&name("choices"), self.choices.len(), slots)?;
        check_length(&name("weights"), self.weights.len(), slots)?;
        check_length(&name("entropy"), self.entropy.len(), tokens)?;
        check_length(&name("margin"), self.margin.len(), tokens)?;
        check_length(&name("relative_margin"), self.relative_margin.len(), tokens)?;
        check_below(&name("choices"), self.choices.iter().copied(), self.experts)?;
        let repeated = (0..tokens).find(|t| has_repeat(self.chosen(*t)));
        match repeated {
            Some(token) => Err(TraceError::Inconsistent {
                what: name("choices"),
                found: format!("a repeated expert at token {token}"),
                wanted: "distinct experts".into(),
            }),
            None => Ok(()),
        }
    }
}

impl TokenTable {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The table of some of its tokens, in the order in which they are named.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn select(&self, tokens: &[usize]) -> TokenTable {
        fn of<T: Copy>(column: &[T], tokens: &[usize]) -> Vec<T> {
            tokens.iter().map(|token| column[*token]).collect()
        }
        TokenTable {
            ids: of(&self.ids, tokens),
            next_ids: of(&self.next_ids, tokens),
            domains: of(&self.domains, tokens),
            documents: of(&self.documents, tokens),
            positions: of(&self.positions, tokens),
            classes: of(&self.classes, tokens),
            domain_names: self.domain_names.clone(),
            class_names: self.class_names.clone(),
        }
    }

    /// Appends the table of later tokens.
    ///
    /// # Errors
    /// If its domains or classes have other names.
    pub fn extend(&mut self, more: TokenTable) -> Result<(), TraceError> {
        if self.domain_names != more.domain_names || self.class_names != more.class_names {
            return Err(TraceError::Inconsistent {
                what: "a later batch".into(),
                found: format!("{} entries", more.domain_names.len() + more.class_names.len()),
                wanted: "the domain and class names of the first".into(),
            });
        }
        self.ids.extend(more.ids);
        self.next_ids.extend(more.next_ids);
        self.domains.extend(more.domains);
        self.documents.extend(more.documents);
        self.positions.extend(more.positions);
        self.classes.extend(more.classes);
        Ok(())
    }

    fn check(&self) -> Result<(), TraceError> {
        let tokens = self.len();
        check_length("token column `next_ids`", self.next_ids.len(), tokens)?;
        check_length("token column `domains`", self.domains.len(), tokens)?;
        check_length("token column `documents`", self.documents.len(), tokens)?;
        check_length("token column `positions`", self.positions.len(), tokens)?;
        check_length("token column `classes`", self.classes.len(), tokens)?;
        check_below(
            "token column `domains`",
            self.domains.iter().map(|d| u32::from(*d)),
            self.domain_names.len(),
        )?;
        check_below(
            "token column `classes`",
            self.classes.iter().map(|c| u32::from(*c)),
            self.class_names.len(),
        )
    }
}

fn has_repeat(chosen: &[u32]) -> bool {
    chosen.iter().enumerate().any(|(i, expert)| chosen[..i].contains(expert))
}

fn check_length(what: &str, found: usize, wanted: usize) -> Result<(), TraceError> {
    if found == wanted {
        return Ok(());
    }
    let rows = |n| format!("{n} entries");
    Err(TraceError::Inconsistent { what: what.into(), found: rows(found), wanted: rows(wanted) })
}

fn check_below(what: &str, mut entries: impl Iterator<Item = u32>, limit: usize) -> Result<(), TraceError> {
    match entries.find(|e| *e as usize >= limit) {
        Some(entry) => Err(TraceError::Inconsistent {
            what: what.into(),
            found: format!("the entry {entry}"),
            wanted: format!("entries below {limit}"),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> TokenTable {
        TokenTable {
            ids: vec![1, 2],
            next_ids: vec![2, 3],
            domains: vec![0, 0],
            documents: vec![0, 0],
            positions: vec![0, 1],
            classes: vec![0, 0],
            domain_names: vec!["a".into()],
            class_names: vec!["word".into()],
        }
    }

    fn layer(choices: Vec<u32>) -> LayerRouting {
        let (weights, entropy, margin) = (vec![0.5; choices.len()], vec![0.1; 2], vec![0.2; 2]);
        LayerRouting {
            layer: 0,
            experts: 4,
            per_token: 2,
            choices,
            weights,
            entropy,
            margin,
            relative_margin: vec![0.1; 2],
        }
    }

    #[test]
    fn a_consistent_trace_is_accepted() {
        assert!(RoutingTrace::new(tokens(), vec![layer(vec![0, 1, 3, 2])]).is_ok());
    }

    #[test]
    fn a_repeated_or_unknown_expert_is_refused() {
        assert!(RoutingTrace::new(tokens(), vec![layer(vec![1, 1, 3, 2])]).is_err());
        assert!(RoutingTrace::new(tokens(), vec![layer(vec![0, 4, 3, 2])]).is_err());
        assert!(RoutingTrace::new(tokens(), vec![layer(vec![0, 1, 3])]).is_err());
    }
}
