"""The audit trail: who did what, when, from where, with which outcome; written so that nobody can change it unseen."""
