package android.content.pm;

/** Stands in for Android's. */
public class PackageInfo {
    public int versionCode = 1;
    public long lastUpdateTime = 1;
}
