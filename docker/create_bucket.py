"""Make the bucket that QPRUNER_STORE_URL names, unless it is there."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

from app.settings import Settings


def main() -> None:
    """Exit with 0 once the bucket exists; boto3's own error otherwise."""
    settings = Settings()
    store = urlsplit(settings.store_url or "")
    if store.scheme != "s3" or not store.netloc:
        sys.exit(f'QPRUNER_STORE_URL is {settings.store_url!r}; only "s3://bucket/prefix" has a bucket to make.')
    client = boto3.client("s3", endpoint_url=settings.s3_endpoint_url, region_name=settings.s3_region)
    try:
        client.head_bucket(Bucket=store.netloc)
        print(f"Bucket {store.netloc} is there.")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        client.create_bucket(Bucket=store.netloc)
        print(f"Bucket {store.netloc} was made.")


if __name__ == "__main__":
    main()
