//! What keeps calls going when the service refuses them: each part a small state machine, driven by the call loop.
mod history;
mod overload;
#[cfg(test)]
mod trials;
