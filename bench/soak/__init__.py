"""A long run with a fault every 20 seconds: is everything said in the end?"""
