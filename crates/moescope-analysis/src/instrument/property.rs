use serde::Serialize;

/// What can be planted in a model and its text, so that the right answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// Routers that read the token and nothing else.
    TokenRoutes,
    /// Routers that read the domain, which the first token of a document tells and no other.
    DomainRoutes,
    /// Routers that read the position and nothing else.
    PositionRoutes,
    /// Routes drawn at random.
    RandomRoutes,
    /// Routers that prefer two of their experts whatever the token.
    UnevenLoad,
    /// Routes of the second layer that follow those of the first, which are drawn at random.
    DependentLayers,
    /// The same, and what is predicted depends on where the second layer sends a token.
    FragileRoutes,
    /// Dependent layers, and one expert of the second that predicts boldly and in vain.
    RashExpert,
    /// A mark of one expert that one expert of the next layer alone reads.
    ReadMark,
    /// One expert that stores what follows some tokens, among others that store nothing.
    FactExpert,
    /// Two experts of a layer that are the same but for the order of their neurons.
    TwinExperts,
    /// Experts that have nothing in common, each of use.
    IndependentExperts,
    /// Experts whose weights have sizes of their own.
    GradedExperts,
    /// One expert of each layer that reads and writes two directions alone.
    NarrowExpert,
    /// Rows of the routers that share one direction.
    CrowdedRouters,
    /// Rows of the routers in random directions.
    ScatteredRouters,
    /// Vectors of the stream on a curve.
    CurvedStream,
    /// Vectors of the stream that fill a flat subspace.
    FlatStream,
    /// A stream of sums of two out of more features than it has dimensions.
    SparseFeatures,
    /// A stream of means over so many tokens that nothing of single ones is left.
    BlendedStream,
    /// Tokens whose vectors share a few dimensions.
    SuperposedTokens,
    /// Tokens each of which has a dimension of its own.
    OrthogonalTokens,
    /// A last block that writes over all that stood before.
    Overwriting,
    /// A prediction that is complete after the first block.
    EarlyAnswer,
    /// A prediction that the last block alone makes.
    LateAnswer,
    /// A prediction that token and expert make together, and neither alone.
    ForkedAnswer,
    /// The same in a model of three layers, where the expert of the last follows from that of the first.
    AnswerByPath,
    /// The same where the expert of the second follows from that of the first, and the third writes nothing.
    AnswerByExpert,
    /// A head that continues what the text has said before.
    CopyingHead,
    /// Heads that write nothing.
    SilentHeads,
    /// Text drawn from the model's own predictions.
    TruePredictions,
    /// Text drawn from predictions less certain than the model's.
    Overconfidence,
    /// A model that speaks of few tokens alone.
    NarrowSpeech,
    /// Domains with words of their own, which every token tells.
    DomainWords,
    /// Another model that is the same but for the names of its experts.
    PermutedTwin,
    /// Another model that differs by a little noise in its routers.
    EarlierSelf,
    /// Another model with weights of its own.
    Strangers,
}

impl Property {
    /// All of them, in the order of reading.
    pub const ALL: [Property; 37] = [
        Property::TokenRoutes,
        Property::DomainRoutes,
        Property::PositionRoutes,
        Property::RandomRoutes,
        Property::UnevenLoad,
        Property::DependentLayers,
        Property::FragileRoutes,
        Property::RashExpert,
        Property::ReadMark,
        Property::FactExpert,
        Property::TwinExperts,
        Property::IndependentExperts,
        Property::GradedExperts,
        Property::NarrowExpert,
        Property::CrowdedRouters,
        Property::ScatteredRouters,
        Property::CurvedStream,
        Property::FlatStream,
        Property::SparseFeatures,
        Property::BlendedStream,
        Property::SuperposedTokens,
        Property::OrthogonalTokens,
        Property::Overwriting,
        Property::EarlyAnswer,
        Property::LateAnswer,
        Property::ForkedAnswer,
        Property::AnswerByPath,
        Property::AnswerByExpert,
        Property::CopyingHead,
        Property::SilentHeads,
        Property::TruePredictions,
        Property::Overconfidence,
        Property::NarrowSpeech,
        Property::DomainWords,
        Property::PermutedTwin,
        Property::EarlierSelf,
        Property::Strangers,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        SAID[self as usize].0
    }

    /// What is planted, in one sentence.
    pub fn planted(self) -> &'static str {
        SAID[self as usize].1
    }
}

/// Name of each property, and what is planted, in the order of their definition.
const SAID: [(&str, &str); Property::ALL.len()] = [
    (
        "routes by token",
        "routers read the token and nothing else; the text is random, and its domains differ in name alone",
    ),
    (
        "routes by domain",
        "routers read the domain, which attention carries on from the first token of each document; all other tokens are drawn alike in all domains",
    ),
    (
        "routes by position",
        "routers read the position and nothing else; the text is random, and the token alone decides what is predicted",
    ),
    ("routes at random", "every prefix is routed at random, and the experts have independent random weights"),
    ("uneven load", "routers prefer two of eight experts whatever the token"),
    (
        "dependent layers",
        "the first layer routes at random, each of its experts leaves a mark, and the second layer routes by that mark",
    ),
    (
        "fragile routes",
        "as dependent layers, and every expert of the second layer predicts a token of its own",
    ),
    (
        "rash expert",
        "as dependent layers, and expert 6 of the second layer alone predicts a token, boldly; the text is random",
    ),
    (
        "read mark",
        "the first layer routes at random and each of its experts leaves a mark; expert 5 of block 1 alone reads that of expert 2, and predicts by it; routers read the token",
    ),
    (
        "fact expert",
        "expert 3 of block 1 alone knows what follows a quarter of the tokens, which are all sent to it; expert 5 is chosen as often and writes nothing",
    ),
    (
        "twin experts",
        "two experts of the first layer are the same but for the order of their neurons, all others independent; text is drawn from the predictions of the model",
    ),
    (
        "independent experts",
        "experts have independent random weights, and text is drawn from the predictions of the model",
    ),
    (
        "graded experts",
        "experts have independent random weights, each a fifth larger than the next in an order of its own",
    ),
    (
        "narrow expert",
        "experts have independent random weights, but all matrices of expert 3 of each layer are products of two directions, of the same norm",
    ),
    (
        "crowded routers",
        "rows of the routers share a direction, and differ by random parts of half its length",
    ),
    ("scattered routers", "rows of the routers have independent random directions"),
    (
        "curved stream",
        "the stream holds the position alone, as points of a closed curve that fills eight dimensions",
    ),
    (
        "flat stream",
        "the stream holds the position alone, as random points of a flat subspace of eight dimensions",
    ),
    (
        "sparse features",
        "the stream is the sum of a direction of the token and one of the position, of 80 random ones in 48 dimensions",
    ),
    (
        "blended stream",
        "one head adds a mean over all tokens so far, in twelve dimensions, beside which all else is small; the text is random and long",
    ),
    (
        "superposed tokens",
        "the vector of each of 48 tokens is a sum of three of twelve directions, with signs; nothing else is written",
    ),
    ("orthogonal tokens", "the vector of each token is a direction of its own; nothing else is written"),
    (
        "overwriting",
        "the second block routes at random, and its experts leave marks beside which all else is small",
    ),
    ("early answer", "experts of the first block write the next token, the second block writes nothing"),
    ("late answer", "experts of the second block write the next token, the first block writes nothing"),
    (
        "forked answer",
        "as dependent layers, and experts of the second layer predict one of two tokens: which, the half of the vocabulary and the expert's number decide together, odd against even",
    ),
    (
        "answer by path",
        "three layers: the first routes at random, the second sends all tokens to the same two experts, the third routes by the mark that the expert of the first has left, and predicts as in forked answer",
    ),
    (
        "answer by expert",
        "three layers: the second routes by the mark that the expert of the first has left, and predicts as in forked answer; the third routes at random and writes nothing",
    ),
    (
        "copying head",
        "head 0 of block 0 moves the previous token, head 0 of block 1 looks for it and copies what followed; the other heads write nothing",
    ),
    ("silent heads", "heads attend evenly and write nothing"),
    ("true predictions", "every next token is drawn from the prediction of the model"),
    (
        "overconfidence",
        "every next token is drawn from the prediction of the model with its logits divided by two and a half",
    ),
    (
        "narrow speech",
        "routers read the token; the text is random, and the model predicts six tokens far more often than all others",
    ),
    (
        "domain words",
        "every domain has a quarter of the vocabulary to itself, from which its tokens are drawn at random",
    ),
    (
        "permuted twin",
        "independent experts, and beside the model another that is the same but for the order of the experts of each layer, in weights and router alike",
    ),
    (
        "earlier self",
        "independent experts, and beside the model another whose routers have noise of a tenth of their size",
    ),
    ("strangers", "independent experts, and beside the model another with weights of its own"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_differ() {
        let names: BTreeSet<&str> = Property::ALL.iter().map(|property| property.name()).collect();
        assert_eq!(names.len(), Property::ALL.len());
        let order: BTreeSet<Property> = Property::ALL.into_iter().collect();
        assert!(Property::ALL.into_iter().eq(order), "in the order of their definition");
        let last = Property::Strangers;
        assert_eq!((Property::TokenRoutes.name(), last.name()), ("routes by token", "strangers"));
        assert!(Property::EarlyAnswer.planted().contains("first block write the next token"));
    }
}
