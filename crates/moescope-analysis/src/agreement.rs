//! Agreement of two models: correlation of their losses token by token, and overlap of their errors.
