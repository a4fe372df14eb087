"""The running programs: composition of decisions, machines and edge. No decision is made here."""
