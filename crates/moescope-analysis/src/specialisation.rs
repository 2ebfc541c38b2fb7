//! Specialisation: what the choice of experts says about domains and tokens.
