"""PairReader: query and title read together by BERT."""
