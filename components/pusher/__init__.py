"""Puts a model that passed where a server looks."""
