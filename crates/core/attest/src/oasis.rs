//! What an Oasis key manager says about itself when it registers (`extra_info`).
