"""How fast is a pushed model served, and does a server stand what happens to one?"""
