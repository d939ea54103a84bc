"""HEAD"""
