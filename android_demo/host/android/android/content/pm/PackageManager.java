package android.content.pm;

/** Stands in for Android's. */
public class PackageManager {
    /** That a package is not there. */
    public static class NameNotFoundException extends Exception {
        private static final long serialVersionUID = 1;
    }

    public PackageInfo getPackageInfo(String name, int flags) throws NameNotFoundException {
        return new PackageInfo();
    }
}
