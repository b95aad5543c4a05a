"""Shops whose exports are read as they are (`SHOPS`)."""

from streams.files.shops import shopify, stripe, woocommerce
from streams.files.shops.shop import SHOPS, Shop, registered

__all__ = ["SHOPS", "Shop", "registered", "shopify", "stripe", "woocommerce"]
